package arena

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sqldb"
)

const (
	// cueTimeout bounds what a cue asks for.
	cueTimeout = 10 * time.Second
	// patience bounds one try to open a database that may be out of reach.
	patience = 3 * time.Second
)

// Settings are what a member's process is told on the first line of its standard
// input, as JSON. The arguments and the environment of a process are for more eyes
// than the password in a DSN should be.
type Settings struct {
	Dir       string // of the logs
	Process   Process
	Venue     Venue
	ORM       bool // work through gorm
	Unguarded bool // write without the guard where the plan breaks it
}

// log is the path of the process's log.
func (s Settings) log() string { return filepath.Join(s.Dir, fmt.Sprintf(memberLog, s.Process)) }

// Lease holds the times of an election.
type Lease struct{ Duration, RenewInterval, RenewDeadline time.Duration }

// margin is what lies between the end of a leader's trust and that of its lease, for
// the callback to return in.
func (l Lease) margin() time.Duration { return l.Duration - l.RenewDeadline }

// Part is what a plan has its members do, beside what they do in every run.
type Part struct {
	Lease        Lease
	GuardTimeout time.Duration // ≤ 0: the library's own
	Connections  int           // at most; ≤ 0: any number
	// Patient members try to open the database for as long as it takes.
	Patient bool
	// Wrap, if set, returns what the elector gets for its storage.
	Wrap func(election.Storage) election.Storage
	// Writers is how many there are in a reign.
	Writers func(*Member) int
	// Write is what each of them does: it appends while ctx lasts. On purpose it may go
	// on afterwards, as a program does that has not noticed: the guard is for that.
	Write func(ctx context.Context, m *Member)
	// Obey, if set, does what a cue of the plan's own asks for. It is called by one
	// goroutine.
	Obey func(ctx context.Context, m *Member, c Cue) error
	// Beside runs beside the elector, until ctx ends.
	Beside func(ctx context.Context, m *Member)
	// Mirror, if set, is told every line of the member's log.
	Mirror func(Line)
}

// Member is one process that takes part in the election.
type Member struct {
	Settings
	Ledger  *Ledger
	Elector election.Elector

	part     Part
	guard    guard
	journal  *Journal
	attempts atomic.Int64
	writing  sync.WaitGroup
}

// RunMember is a member's process. It takes part until ctx ends or stdin is closed,
// which also happens when the stage dies. Its settings and its cues come from stdin.
// No error shows a secret.
func RunMember(ctx context.Context, stdin io.Reader, p Part) (err error) {
	m := &Member{part: p}
	lines := bufio.NewScanner(stdin)
	lines.Scan()
	if err := json.Unmarshal(lines.Bytes(), &m.Settings); err != nil || m.Venue.DSN == "" {
		return errors.Join(errors.New("the first line of standard input holds no settings"), err, lines.Err())
	}
	if m.journal, err = NewJournal(m.log(), p.Mirror); err != nil {
		return err
	}
	err = m.perform(ctx, lines)
	l := Line{What: Left}
	if err != nil {
		l.Err = err.Error()
	}
	m.Note(l)
	return m.Venue.Redact(errors.Join(err, m.journal.Close()))
}

func (m *Member) perform(ctx context.Context, cues *bufio.Scanner) error {
	storage, err := m.open(ctx)
	switch {
	case ctx.Err() != nil: // told to end before it could begin
		return nil
	case err != nil:
		return err
	}
	defer m.Ledger.Close()
	if m.part.Wrap != nil {
		storage = m.part.Wrap(storage)
	}
	m.Elector, err = election.NewElector(election.Config{
		ID:             m.Process.Member,
		Storage:        storage,
		LeaderCallback: m.lead,
		LeaseDuration:  m.part.Lease.Duration,
		RenewInterval:  m.part.Lease.RenewInterval,
		RenewDeadline:  m.part.Lease.RenewDeadline,
		OnEvent:        m.observe,
	})
	if err != nil {
		return err
	}
	return m.takePart(ctx, cues)
}

// open opens the database: at once, or however long that takes.
func (m *Member) open(ctx context.Context) (election.Storage, error) {
	if !m.part.Patient {
		return m.tryOpen(ctx)
	}
	for {
		try, cancel := context.WithTimeout(ctx, patience)
		storage, err := m.tryOpen(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			return storage, err
		}
		m.Note(Line{What: Troubled, Err: "open: " + err.Error()})
		Pause(ctx, 100*time.Millisecond)
	}
}

func (m *Member) tryOpen(ctx context.Context) (storage election.Storage, err error) {
	if m.Ledger, err = Open(ctx, m.Venue); err != nil {
		return nil, err
	}
	m.Ledger.DB.SetMaxOpenConns(m.part.Connections)
	if storage, m.guard, err = openStorage(m.Ledger, m.ORM, m.part.GuardTimeout); err != nil {
		return nil, errors.Join(err, m.Ledger.Close())
	}
	return storage, nil
}

// takePart runs the elector, and beside it what listens to the stage. The listener
// is not waited for: only the end of stdin ends it.
func (m *Member) takePart(ctx context.Context, cues *bufio.Scanner) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	go func() {
		defer leave()
		m.listen(ctx, cues)
	}()
	var beside sync.WaitGroup
	beside.Go(func() { m.part.Beside(ctx, m) })
	err := m.Elector.RunElection(ctx)
	leave()
	beside.Wait()
	m.writing.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Note writes a line about this member to its log.
func (m *Member) Note(l Line) {
	l.Member, l.Number = m.Process.Member, m.Process.Number
	l.Err = sqldb.RedactText(m.Venue.DSN, l.Err)
	m.journal.Write(l)
}

// observe writes down what the elector reports, where a reader of the log can use it.
func (m *Member) observe(e election.Event) {
	switch e.Kind {
	case election.EventJoined:
		m.Note(Line{What: Joined})
	case election.EventStorageError, election.EventHistoryLost, election.EventCallbackOverrun, election.EventDuplicate,
		election.EventSuspended, election.EventDropped:
		m.Note(Line{What: Troubled, Term: e.Term, Err: fmt.Sprintf("%s: %v", e.Kind, e.Err)})
	}
}

// lead is the leader callback. It returns as soon as its ctx ends, as it should; its
// writers may not, as they should not.
func (m *Member) lead(ctx context.Context) error {
	term := TermOf(ctx)
	m.Note(Line{What: Entered, Term: term})
	var writers sync.WaitGroup
	for range m.part.Writers(m) {
		writers.Go(func() { m.part.Write(ctx, m) })
	}
	m.writing.Go(func() {
		writers.Wait()
		m.Note(Line{What: Ceased, Term: term})
	})
	<-ctx.Done()
	m.Note(Line{What: Exited, Term: term, Err: context.Cause(ctx).Error()})
	return nil
}

// Append appends one entry and writes down what came of it. With the guard the entry
// can only be committed while this member leads in the term that ctx carries; the
// entry says that term, whether or not that is still so. The transaction does
// something else for work before it takes a number: a change of leader that the guard
// should hold up must not have to wait for the ledger instead.
func (m *Member) Append(ctx context.Context, guarded bool, work time.Duration) {
	guard := m.guard
	if !guarded {
		guard = noGuard(m.Ledger.DB)
	}
	e := Entry{Term: TermOf(ctx), Process: m.Process, Token: fmt.Sprintf("%s/%d", m.Process, m.attempts.Add(1))}
	m.Note(Line{What: Began, Term: e.Term, Token: e.Token})
	err := guard(ctx, m.Process.Member, func(tx querier) error {
		Pause(ctx, work)
		return m.Ledger.append(ctx, tx, &e)
	})
	l := Line{What: outcome(err), Term: e.Term, Token: e.Token, Seq: e.Seq}
	if err != nil {
		l.Err = err.Error()
	}
	m.Note(l)
}

func outcome(err error) What {
	switch {
	case err == nil:
		return Committed
	case errors.Is(err, election.ErrOutcomeUnknown):
		return Unknown
	case errors.Is(err, election.ErrNotLeader):
		return Refused
	}
	return Failed
}

// listen obeys cues until stdin is closed.
func (m *Member) listen(ctx context.Context, cues *bufio.Scanner) {
	for cues.Scan() {
		c, err := ParseCue(cues.Text())
		if err == nil {
			err = m.obey(ctx, c)
		}
		l := Line{What: Asked, Cue: c.Verb, Term: c.Term}
		if err != nil {
			l.Err = err.Error()
		}
		m.Note(l)
	}
}

func (m *Member) obey(ctx context.Context, c Cue) error {
	ctx, cancel := context.WithTimeout(ctx, cueTimeout)
	defer cancel()
	if c.Term != 0 && !m.Leads(c.Term) {
		return fmt.Errorf("%s does not lead in term %d any more", m.Process.Member, c.Term)
	}
	switch {
	case c.Verb == Resign:
		pause, err := time.ParseDuration(c.Arg)
		if err != nil {
			return err
		}
		return m.Elector.ResignLeader(ctx, pause)
	case c.Verb == Transfer:
		return m.Elector.TransferLeader(ctx, c.Arg)
	case m.part.Obey != nil:
		return m.part.Obey(ctx, m, c)
	}
	return fmt.Errorf("unknown cue %q", c.Verb)
}

// Leads reports whether the member believes that it leads in term.
func (m *Member) Leads(term uint64) bool {
	now, leading := m.Elector.Term()
	return leading && now == term
}

// TermOf is the term of the reign that ctx carries, 0 if it carries none.
func TermOf(ctx context.Context) uint64 {
	reign, _ := election.LeadershipFromContext(ctx)
	return reign.Term
}

// Pause waits for d, or for the end of ctx.
func Pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
