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
	network, target string
	listener        net.Listener
	passed          atomic.Int64

	mu      sync.Mutex
	mode    proxyMode
	delay   time.Duration
	idle    time.Duration // 0: no limit
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
	p := &Proxy{network: network, target: target, listener: listener,
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

// Pass lets everything through, what was swallowed included.
func (p *Proxy) Pass() { p.set(passing, 0) }

// Delay lets each packet through d later, in both directions.
func (p *Proxy) Delay(d time.Duration) { p.set(delaying, d) }

// Swallow lets nothing through, not even the end of a connection: like a network
// that loses every packet. What was sent meanwhile arrives if Pass comes later.
func (p *Proxy) Swallow() { p.set(swallowing, 0) }

// Cut closes all connections, and each new one at once.
func (p *Proxy) Cut() { p.set(cutting, 0) }

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
	if !p.gate() {
		_ = client.Close()
		return
	}
	server, err := net.Dial(p.network, p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server}
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

// pump forwards from one side to the other. It reads no further while the gate is
// shut, so that the end of a connection is held up as well.
func (p *Proxy) pump(l *link, to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !p.gate() {
			return
		}
		p.passed.Add(int64(n))
		if l.idle != nil && n > 0 {
			l.idle.Reset(l.limit)
		}
		if _, writeErr := to.Write(buffer[:n]); err == nil {
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

// gate waits until a packet may pass, and reports false if its connection is cut.
func (p *Proxy) gate() bool {
	waited := false
	for {
		p.mu.Lock()
		mode, delay, changed := p.mode, p.delay, p.changed
		p.mu.Unlock()
		switch {
		case mode >= cutting:
			return false
		case mode == passing, mode == delaying && waited:
			return true
		case mode == delaying:
			select {
			case <-time.After(delay):
				waited = true
			case <-changed:
			}
		default:
			<-changed
		}
	}
}
