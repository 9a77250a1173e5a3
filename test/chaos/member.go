//go:build linux

package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/sqldb"
)

// memberCommand is the first argument under which the program is a member.
const memberCommand = "member"

// Short, so that a run sees many reigns, and long enough for renewals to get
// through on a busy machine. The margin between the trust and the lease, for the
// callback to return in, is half a second.
const (
	leaseDuration = 2 * time.Second
	renewInterval = 400 * time.Millisecond
	renewDeadline = 1500 * time.Millisecond
	margin        = leaseDuration - renewDeadline
	guardTimeout  = 2 * time.Second
)

const (
	poolSize = 20
	// stallTick and leastStall find moments at which the process did not run.
	stallTick  = 20 * time.Millisecond
	leastStall = 150 * time.Millisecond
	// askPatience bounds a resignation or transfer.
	askPatience = 10 * time.Second
)

// settings are what a member's process is told on the first line of its standard
// input.
type settings struct {
	ID             string
	Life           int
	Driver, Source string
	Server         bool // the database is one
	ORM            bool // through gorm
	Unguarded      bool
}

// member is one process that takes part in the election.
type member struct {
	settings
	life    life
	ledger  *ledger
	guard   guard
	elector election.Elector
	journal *journal

	attempts atomic.Int64
	writing  sync.WaitGroup
}

// runMember takes part until SIGTERM, or until stdin ends, which also happens when
// the stage dies.
func runMember(stdin io.Reader, stdout io.Writer) error {
	ctx, leave := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer leave()
	lines := bufio.NewScanner(stdin)
	lines.Scan()
	m := &member{journal: &journal{out: stdout}}
	if err := json.Unmarshal(lines.Bytes(), &m.settings); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	m.life = life{m.ID, m.Life}
	err := m.takePart(ctx, leave, lines)
	l := line{What: left}
	if err != nil {
		l.Err = err.Error()
	}
	m.note(l)
	return sqldb.RedactError(m.Source, err)
}

func (m *member) takePart(ctx context.Context, leave func(), cues *bufio.Scanner) error {
	go m.watchForStalls(ctx)
	if !m.open(ctx) {
		return nil
	}
	defer m.ledger.db.Close()
	go func() {
		defer leave()
		m.listen(ctx, cues)
	}()
	err := m.elector.RunElection(ctx)
	m.writing.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// open opens the database, however long that takes: a member may be started while
// it is out of reach. It reports false if ctx has ended before.
func (m *member) open(ctx context.Context) bool {
	for ctx.Err() == nil {
		err := m.tryOpen(ctx)
		if err == nil {
			return true
		}
		m.note(line{What: troubled, Err: "open: " + err.Error()})
		wait(ctx, 100*time.Millisecond)
	}
	return false
}

func (m *member) tryOpen(ctx context.Context) (err error) {
	patient, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if m.ledger, err = openLedger(patient, m.Driver, m.Source); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = m.ledger.db.Close()
		}
	}()
	m.ledger.db.SetMaxOpenConns(poolSize)
	storage, err := m.openStorage(m.ledger.db)
	if err != nil {
		return err
	}
	if m.Unguarded {
		m.guard = noGuard(m.ledger.db)
	}
	m.elector, err = election.NewElector(election.Config{
		ID: m.ID, Storage: storage, LeaderCallback: m.lead,
		LeaseDuration: leaseDuration, RenewInterval: renewInterval, RenewDeadline: renewDeadline,
		OnEvent: m.observe,
	})
	return err
}

func (m *member) openStorage(db *sql.DB) (election.Storage, error) {
	if m.ORM {
		s, err := election.NewORMStorageFromSQLDB(db, electionTable)
		if err != nil {
			return nil, err
		}
		s = s.WithGuardTimeout(guardTimeout)
		m.guard = guardOfORM(s)
		return s, nil
	}
	s, err := election.NewSQLStorage(db, electionTable)
	if err != nil {
		return nil, err
	}
	s = s.WithGuardTimeout(guardTimeout)
	m.guard = guardOfSQL(s)
	return s, nil
}

// note writes a line about this member to its log.
func (m *member) note(l line) {
	l.Member, l.Life = m.life.member, m.life.number
	l.Err = sqldb.RedactText(m.Source, l.Err)
	m.journal.write(l)
}

// observe writes down what the elector reports, where a reader of the log can use it.
func (m *member) observe(e election.Event) {
	switch e.Kind {
	case election.EventJoined:
		m.note(line{What: joined})
	case election.EventStorageError, election.EventHistoryLost, election.EventCallbackOverrun, election.EventDuplicate,
		election.EventSuspended, election.EventDropped:
		m.note(line{What: troubled, Term: e.Term, Err: fmt.Sprintf("%s: %v", e.Kind, e.Err)})
	}
}

// lead is the leader callback. It returns as soon as its ctx ends, as it should;
// its writers do not, as they should not.
func (m *member) lead(ctx context.Context) error {
	reign, _ := election.LeadershipFromContext(ctx)
	m.note(line{What: entered, Term: reign.Term})
	writers := fileWriters
	if m.Server {
		writers = serverWriters
	}
	for range writers {
		m.writing.Go(func() { m.write(ctx) })
	}
	<-ctx.Done()
	m.note(line{What: exited, Term: reign.Term, Err: context.Cause(ctx).Error()})
	return nil
}

// listen does what the stage asks for, until stdin ends.
func (m *member) listen(ctx context.Context, cues *bufio.Scanner) {
	for cues.Scan() {
		verb, argument, _ := strings.Cut(cues.Text(), " ")
		l := line{What: asked, Fault: kind(verb)}
		if err := m.obey(ctx, kind(verb), argument); err != nil {
			l.Err = err.Error()
		}
		m.note(l)
	}
}

func (m *member) obey(ctx context.Context, verb kind, argument string) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	switch verb {
	case resign:
		pause, err := time.ParseDuration(argument)
		if err != nil {
			return err
		}
		return m.elector.ResignLeader(ctx, pause)
	case transfer:
		return m.elector.TransferLeader(ctx, argument)
	}
	return fmt.Errorf("unknown cue %q", verb)
}

// watchForStalls writes down when the process did not run: because it was stopped,
// or because a busy machine did not let it.
func (m *member) watchForStalls(ctx context.Context) {
	tick := time.NewTicker(stallTick)
	defer tick.Stop()
	for last := bootClock(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := bootClock()
		if late := now - last; late >= int64(leastStall) {
			m.note(line{What: stalled, For: late})
		}
		last = now
	}
}
