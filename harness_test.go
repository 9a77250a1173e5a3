package election_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/clock"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// TestMain lets more tests run at once than there are cores, unless -parallel says otherwise: most
// of them wait most of their time. Under the race detector they compute more.
func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		atOnce := 3
		if raceEnabled {
			atOnce = 2
		}
		_ = flag.Set("test.parallel", strconv.Itoa(atOnce*runtime.GOMAXPROCS(0)))
	}
	tellTerminal()
	os.Exit(m.Run())
}

// tellTerminal says on the terminal, if there is one, what takes so long: go test shows nothing of
// a package before it has ended.
func tellTerminal() {
	terminal, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer terminal.Close()
	fmt.Fprintln(terminal, "election: electing on SQLite and on every server that is installed, for some minutes;"+
		" -short leaves out servers, -v shows each test")
}

// stay is a leader callback that does nothing until its ctx ends.
func stay(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// reignLog records when callbacks ran, for every member of a test.
type reignLog struct {
	mu     sync.Mutex
	reigns []*reignEntry
}

type reignEntry struct {
	id          string
	term        uint64
	enter, exit time.Time // exit is zero while it runs
	cause       error
}

// callback returns a LeaderCallback of id that needs stop to return after its
// ctx has ended.
func (l *reignLog) callback(id string, stop time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		exit := l.enter(ctx, id)
		<-ctx.Done()
		if stop > 0 {
			<-time.After(stop) // virtual time
		}
		exit()
		return nil
	}
}

// enter logs that a callback runs, until the returned function is called.
func (l *reignLog) enter(ctx context.Context, id string) (exit func()) {
	leadership, _ := election.LeadershipFromContext(ctx)
	entry := &reignEntry{id: id, term: leadership.Term, enter: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reigns = append(l.reigns, entry)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		entry.exit, entry.cause = time.Now(), context.Cause(ctx)
	}
}

// all returns a copy of what was logged.
func (l *reignLog) all() []reignEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := make([]reignEntry, 0, len(l.reigns))
	for _, e := range l.reigns {
		entries = append(entries, *e)
	}
	return entries
}

func (l *reignLog) last() reignEntry {
	all := l.all()
	if len(all) == 0 {
		return reignEntry{}
	}
	return all[len(all)-1]
}

// requireSound checks G1 and G2: no two callbacks overlap, and terms grow from
// one to the next.
func (l *reignLog) requireSound(t *testing.T) {
	t.Helper()
	all := l.all()
	for i, e := range all {
		if i == 0 {
			continue
		}
		prev := all[i-1]
		require.False(t, prev.exit.IsZero(), "%s in term %d started while %s in term %d ran", e.id, e.term, prev.id, prev.term)
		require.False(t, e.enter.Before(prev.exit), "%s in term %d started %v before %s in term %d had returned",
			e.id, e.term, prev.exit.Sub(e.enter), prev.id, prev.term)
		require.Greater(t, e.term, prev.term, "terms grow")
	}
}

// party runs members of one election and stops them all at the end of the test.
type party struct {
	t       *testing.T
	ctx     context.Context
	log     reignLog
	mu      sync.Mutex
	members map[string]*partyMember
	watches bool // members are told of changes of leader, where their storage can
}

type partyMember struct {
	election.Elector
	cancel context.CancelFunc
	done   chan struct{}
	err    error // after done
}

func newParty(t *testing.T) *party {
	p := &party{t: t, ctx: clock.With(t.Context(), clock.Virtual()), members: map[string]*partyMember{}}
	t.Cleanup(p.stopAll)
	return p
}

// join starts a member; change adapts its configuration.
func (p *party) join(id string, storage election.Storage, change ...func(*election.Config)) *partyMember {
	p.t.Helper()
	if !p.watches {
		storage = unwatched(storage)
	}
	cfg := election.Config{ID: id, Storage: storage, LeaderCallback: p.log.callback(id, 0)}
	for _, c := range change {
		c(&cfg)
	}
	e, err := election.NewElector(cfg)
	require.NoError(p.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.ctx))
	m := &partyMember{Elector: e, cancel: cancel, done: make(chan struct{})}
	p.mu.Lock()
	p.members[fmt.Sprintf("%s#%d", id, len(p.members))] = m
	p.mu.Unlock()
	go func() {
		defer close(m.done)
		m.err = e.RunElection(ctx)
	}()
	return m
}

// ended reports whether RunElection has returned.
func (m *partyMember) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// leave stops a member and waits for it.
func (m *partyMember) leave() error {
	m.cancel()
	<-m.done
	return m.err
}

func (p *party) stopAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		m.cancel()
	}
	for _, m := range p.members {
		<-m.done
	}
}

// leaders returns the IDs of the members that believe they lead.
func (p *party) leaders() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, m := range p.members {
		if m.IsLeader() {
			ids = append(ids, m.Status().ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// leader is the member that leads, or one of them.
func (p *party) leader() *partyMember {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		if m.IsLeader() {
			return m
		}
	}
	return nil
}

// waitFor polls condition every ms until it holds, for at most patience.
func waitFor(t *testing.T, patience time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-deadline:
			require.FailNow(t, "gave up after "+patience.String()+" waiting for "+what)
		case <-time.After(time.Millisecond):
		}
	}
}

func stopTakes(d time.Duration, log *reignLog) func(*election.Config) {
	return func(c *election.Config) { c.LeaderCallback = log.callback(c.ID, d) }
}

// onEveryStorage runs a test on virtual time: on the reference storage, and
// on each SQL storage and database that is there. Every open is another handle
// on the same, fresh election.
//
// Servers are there too: while a reply is under way the bubble's clock stands
// still, so what a test must not do on virtual time is wait for a lock that is held
// until some time has passed, or for a deadline that ends a statement.
func onEveryStorage(t *testing.T, run func(t *testing.T, open func() election.Storage)) {
	t.Helper()
	t.Run("Memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			memory := storagetest.NewMemory()
			run(t, func() election.Storage { return memory.Handle() })
		})
	})
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			run(t, func() election.Storage {
				s, err := kind.open(db.Open(t), "", "")
				require.NoError(t, err)
				return s
			})
		})
	})
}

// repeats is how often a test of many rounds repeats them: ELECTION_TEST_FULL=1 is for the nightly
// steps.
func repeats(usually, full int) int {
	if os.Getenv("ELECTION_TEST_FULL") != "" {
		return full
	}
	return usually
}

func ormNothing(*gorm.DB) error { return nil }
