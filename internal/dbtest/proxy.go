package dbtest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Proxy is a network on the loopback interface that can be disturbed. Safe for
// concurrent use.
type Proxy struct {
	network       string
	listener      net.Listener
	passed, trips atomic.Int64

	mu      sync.Mutex
	target  string
	mode    proxyMode
	delay   time.Duration
	idle    time.Duration // 0: no limit
	login   int           // round trips of a new connection
	changed chan struct{} // closed at the next change of mode
	links   map[*link]bool
}

type proxyMode int

const (
	passing proxyMode = iota
	delaying
	swallowing
	cutting
	closed
)

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	answered       atomic.Bool // since the client's last packet
	idle           *time.Timer // nil: it may be idle for ever
	limit          time.Duration
}

// cut closes both sides with a reset: what is under way is lost.
func (l *link) cut() {
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	l.close()
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// NewProxy returns a proxy that passes everything to target, until the test ends.
func NewProxy(t testing.TB, network, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{network: network, target: target, listener: listener, login: 1,
		changed: make(chan struct{}), links: map[*link]bool{}}
	var running sync.WaitGroup
	running.Go(func() { p.accept(&running) })
	t.Cleanup(func() {
		p.set(closed, 0)
		_ = listener.Close()
		running.Wait()
	})
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Passed is how many bytes have come through, both ways.
func (p *Proxy) Passed() int64 { return p.passed.Load() }

// Trips is how often a client has sent something after an answer, or first: how many
// round trips were waited for, the first one of each connection's transport aside. It
// takes a delay for packets that are sent one after the other to count as one.
func (p *Proxy) Trips() int64 { return p.trips.Load() }

// Links is how many connections are open.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Pass lets everything through, what was swallowed included.
func (p *Proxy) Pass() { p.set(passing, 0) }

// Delay lets each packet through d later, in both directions, and a new connection
// after one more round trip.
func (p *Proxy) Delay(d time.Duration) { p.set(delaying, d) }

// Login makes a new connection wait for more round trips while packets are delayed, as TLS
// and SCRAM do: trips is how many beside those that its client sees.
func (p *Proxy) Login(trips int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login = 1 + trips
}

func (p *Proxy) logins() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 2 * p.login
}

// Swallow lets nothing through, not even the end of a connection: like a network
// that loses every packet. What was sent meanwhile arrives if Pass comes later.
func (p *Proxy) Swallow() { p.set(swallowing, 0) }

// Cut closes all connections, and each new one at once.
func (p *Proxy) Cut() { p.set(cutting, 0) }

// Redirect leads new connections to another target of the same network.
func (p *Proxy) Redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// CutIdle makes each new connection end once it has carried nothing for d, as balancers do.
func (p *Proxy) CutIdle(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = d
}

func (p *Proxy) set(mode proxyMode, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode, p.delay = mode, delay
	close(p.changed)
	p.changed = make(chan struct{})
	if mode < cutting {
		return
	}
	for l := range p.links {
		l.cut()
	}
}

func (p *Proxy) accept(running *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		running.Go(func() { p.serve(client) })
	}
}

// serve forwards one connection in both directions until both have ended.
func (p *Proxy) serve(client net.Conn) {
	for range p.logins() { // the handshake of the transport, and more
		if !p.gate(time.Now()) {
			_ = client.Close()
			return
		}
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial(p.network, target)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server}
	l.answered.Store(true)
	defer l.close()
	defer p.remove(l)
	if !p.add(l) {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, l.server, l.client) })
	pumps.Go(func() { p.pump(l, l.client, l.server) })
	pumps.Wait()
}

// add registers a link, unless connections are cut by now.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = true
	if l.limit = p.idle; l.limit > 0 {
		l.idle = time.AfterFunc(l.limit, l.cut)
	}
	return p.mode < cutting
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// packet is what was read at once, and what the reading ended with.
type packet struct {
	data []byte
	err  error
	at   time.Time
}

// pump forwards from one side to the other. Packets on their way do not wait for each
// other, as in a network.
func (p *Proxy) pump(l *link, to, from net.Conn) {
	const window = 32 // packets on their way; then the sender waits
	packets := make(chan packet, window)
	var reading sync.WaitGroup
	defer reading.Wait()
	done := make(chan struct{})
	defer close(done)
	reading.Go(func() { p.read(l, from, packets, done) })
	for next := range packets {
		if !p.gate(next.at) {
			return
		}
		p.passed.Add(int64(len(next.data)))
		if to == l.client && len(next.data) > 0 {
			l.answered.Store(true)
		}
		if l.idle != nil && len(next.data) > 0 {
			l.idle.Reset(l.limit)
		}
		err := next.err
		if _, writeErr := to.Write(next.data); err == nil {
			err = writeErr
		}
		if err == nil {
			continue
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
			_ = half.CloseWrite()
		} else {
			l.close()
		}
		return
	}
}

// read reads packets until the connection, or the pump, ends.
func (p *Proxy) read(l *link, from net.Conn, packets chan<- packet, done <-chan struct{}) {
	defer close(packets)
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if from == l.client && n > 0 && l.answered.Swap(false) {
			p.trips.Add(1)
		}
		select {
		case packets <- packet{buffer[:n], err, time.Now()}:
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}

// gate waits until a packet may pass that came at a moment, and reports false if its
// connection is cut.
func (p *Proxy) gate(came time.Time) bool {
	for {
		p.mu.Lock()
		mode, delay, changed := p.mode, p.delay, p.changed
		p.mu.Unlock()
		left := time.Until(came.Add(delay))
		switch {
		case mode >= cutting:
			return false
		case mode == passing, mode == delaying && left <= 0:
			return true
		case mode == delaying:
			select {
			case <-time.After(left):
			case <-changed:
			}
		default:
			<-changed
		}
	}
}
