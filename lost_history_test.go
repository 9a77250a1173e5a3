package election_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/dbtest"
	"github.com/sqlelect/election/storagetest"
)

// The rows vanish, or go back to a backup, under a running leader, while a
// follower that saw them looks every few ms: no overlap, and a higher term.
func TestTrap11HistoryLost(t *testing.T) {
	for name, rewind := range map[string]func(backup storagetest.Rows) storagetest.Rows{
		"rows deleted": func(storagetest.Rows) storagetest.Rows { return storagetest.Rows{} },
		"record row deleted": func(storagetest.Rows) storagetest.Rows {
			return storagetest.Rows{Leader: &storagetest.LeaderRow{LeaderID: "z", Term: 2_000_000}}
		},
		"restored":           func(backup storagetest.Rows) storagetest.Rows { return backup },
		"leader row deleted": func(backup storagetest.Rows) storagetest.Rows { return storagetest.Rows{Record: backup.Record} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				// A term far above what versions alone would give.
				require.NoError(t, memory.Update(t.Context(), &election.Record{Term: 1_000_000}, true))
				p := newParty(t)
				eager := func(c *election.Config) {
					c.RenewInterval = time.Millisecond
					c.LeaderCallback = p.log.callback(c.ID, 300*time.Millisecond)
				}
				a := p.join("a", memory.Handle(), stopTakes(300*time.Millisecond, &p.log))
				synctest.Wait()
				b := p.join("b", memory.Handle(), eager)
				<-time.After(3 * time.Second)
				backup := memory.Rows()
				<-time.After(10 * time.Second)
				before, _ := a.Term()
				now := memory.Rows()
				if name == "leader row deleted" {
					backup = now
				}
				memory.SetRows(rewind(backup))
				waitFor(t, time.Minute, "a stops", func() bool { return !p.log.all()[0].exit.IsZero() })
				require.ErrorIs(t, p.log.all()[0].cause, election.ErrHistoryLost)
				waitFor(t, time.Minute, "somebody leads", func() bool { return len(p.log.all()) == 2 && len(p.leaders()) == 1 })
				require.Greater(t, p.log.last().term, before)
				if name == "record row deleted" {
					require.Greater(t, p.log.last().term, uint64(2_000_000))
				}
				<-time.After(15 * time.Second)
				require.Len(t, p.leaders(), 1)
				_ = b.leave()
				_ = a.leave()
				p.log.requireSound(t)
			})
		})
	}
}

// Rows deleted soon after many members joined: the versions grow past what some
// had seen before those look again, and still nobody overlaps.
func TestTrap11LostHistoryThatHasGrownAgain(t *testing.T) {
	for _, leaderRowStays := range []bool{false, true} {
		for i := range 20 {
			synctest.Test(t, func(t *testing.T) {
				memory := storagetest.NewMemory()
				p := newParty(t)
				for n := range 5 + i {
					p.join(fmt.Sprint("m", n), memory.Handle())
				}
				<-time.After(time.Second)
				rows := memory.Rows()
				rows.Record = nil
				if !leaderRowStays {
					rows.Leader = nil
				}
				memory.SetRows(rows)
				<-time.After(30 * time.Second)
				require.Len(t, p.leaders(), 1)
				p.stopAll()
				p.log.requireSound(t)
			})
		}
	}
}

// A newcomer that has seen nothing leads above every term that a live member
// remembers, once such a member has written.
func TestTrap11TermFloorReachesNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		a := p.join("a", memory.Handle())
		<-time.After(time.Minute)
		before, _ := a.Term()
		require.Equal(t, uint64(1), before)
		rows := memory.Rows()
		rows.Record.Term, rows.Leader.Term = 500, 500
		memory.SetRows(rows)
		waitFor(t, time.Minute, "a leads anew", func() bool { term, _ := a.Term(); return term > 500 })
		memory.SetRows(storagetest.Rows{})
		waitFor(t, time.Minute, "a writes again", func() bool { return memory.Rows().Record != nil })
		c := p.join("c", memory.Handle())
		synctest.Wait()
		a.cancel()
		waitFor(t, time.Minute, "c leads", c.IsLeader)
		term, _ := c.Term()
		require.Greater(t, term, uint64(501))
	})
}

// A member that comes back with an older memory does not make the record forget
// a higher term.
func TestTrap11FloorSurvivesAMemberThatKnowsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.NewMemory()
		p := newParty(t)
		var cutB, cutC atomic.Bool
		b := p.join("b", cutOff(memory, &cutB))
		<-time.After(21 * time.Second)
		require.True(t, b.IsLeader())
		cutB.Store(true)
		<-time.After(time.Second)
		memory.SetRows(storagetest.Rows{ // the election went on without b
			Record: &election.Record{Version: 600, Term: 500}, Leader: &storagetest.LeaderRow{Term: 500},
		})
		c := p.join("c", cutOff(memory, &cutC))
		<-time.After(3 * time.Second)
		term, leads := c.Term()
		require.True(t, leads)
		memory.SetRows(storagetest.Rows{})
		waitFor(t, time.Minute, "c writes what it remembers", func() bool { return memory.Rows().Record != nil })
		require.Equal(t, term, memory.Rows().Record.TermFloor)
		cutC.Store(true)
		cutB.Store(false)
		waitFor(t, 2*time.Minute, "b leads", func() bool { return p.log.last().id == "b" && b.IsLeader() })
		require.Greater(t, p.log.last().term, term)
	})
}

// The rows are deleted under a running leader.
func TestTrap11RowsDeletedFromTheTable(t *testing.T) {
	eachStorage(t, func(t *testing.T, db *dbtest.Database, kind storageKind) {
		synctest.Test(t, func(t *testing.T) {
			handle := db.Open(t)
			open := func() election.Storage {
				s, err := kind.open(db.Open(t), "", "")
				require.NoError(t, err)
				return s
			}
			p := newParty(t)
			a := p.join("a", open(), stopTakes(300*time.Millisecond, &p.log))
			waitFor(t, time.Minute, "a leads", a.IsLeader)
			p.join("b", open(), func(c *election.Config) { c.RenewInterval = 100 * time.Millisecond })
			<-time.After(5 * time.Second)
			term, _ := a.Term()
			waitFor(t, time.Minute, "the rows are deleted", func() bool {
				_, err := handle.Exec(`DELETE FROM election`)
				return err == nil
			})
			waitFor(t, time.Minute, "a new reign", func() bool { return len(p.log.all()) == 2 })
			require.ErrorIs(t, p.log.all()[0].cause, election.ErrHistoryLost)
			require.Greater(t, p.log.last().term, term)
			p.stopAll()
			p.log.requireSound(t)
		})
	})
}
