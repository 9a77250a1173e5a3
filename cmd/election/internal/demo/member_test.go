package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/sqlelect/election"
	"github.com/sqlelect/election/internal/arena"
)

// createLedger creates the tables in the file of a run in dir.
func createLedger(t *testing.T, dir string) *arena.Ledger {
	t.Helper()
	l, err := arena.Open(t.Context(), ownFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// rehearsal is a member that runs within the test, and what it says.
type rehearsal struct {
	*testing.T
	dir     string
	ledger  *arena.Ledger
	stdin   *io.PipeWriter
	reports *json.Decoder
	ended   chan error
	unread  []report // what the member said before it answered the last cue
}

func rehearse(t *testing.T, unguarded bool) *rehearsal {
	t.Helper()
	dir := t.TempDir()
	l := createLedger(t, dir)
	cues, stdin := io.Pipe()
	stdout, says := io.Pipe()
	r := &rehearsal{t, dir, l, stdin, json.NewDecoder(stdout), make(chan error, 1), nil}
	go func() {
		err := RunMember(context.Background(), cues, says)
		says.CloseWithError(err)
		r.ended <- err
	}()
	settings := arena.Settings{Dir: dir, Process: arena.Process{Member: "a", Number: 1}, Venue: ownFile(dir), Unguarded: unguarded}
	if err := json.NewEncoder(stdin).Encode(settings); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		go io.Copy(io.Discard, stdout)
	})
	return r
}

// next reads reports up to one that is wanted.
func (r *rehearsal) next(wanted func(report) bool) report {
	r.Helper()
	for len(r.unread) > 0 {
		rep := r.unread[0]
		r.unread = r.unread[1:]
		if wanted(rep) {
			return rep
		}
	}
	for {
		if rep := r.hear(); wanted(rep) {
			return rep
		}
	}
}

func (r *rehearsal) hear() (rep report) {
	r.Helper()
	if err := r.reports.Decode(&rep); err != nil {
		r.Fatalf("the member says no more: %v", err)
	}
	return rep
}

func says(w arena.What) func(report) bool {
	return func(rep report) bool { return rep.Line != nil && rep.Line.What == w }
}

func (r *rehearsal) line(w arena.What) arena.Line {
	r.Helper()
	return *r.next(says(w)).Line
}

// ask gives a cue and returns the answer's error. What the member says before it
// answers stays to be read.
func (r *rehearsal) ask(c arena.Cue) string {
	r.Helper()
	fmt.Fprintln(r.stdin, c)
	for {
		rep := r.hear()
		if !says(arena.Asked)(rep) {
			r.unread = append(r.unread, rep)
			continue
		}
		if rep.Line.Cue != c.Verb {
			r.Errorf("asked to %s, answered to %s", c.Verb, rep.Line.Cue)
		}
		return rep.Line.Err
	}
}

// end closes the member's standard input, and returns its log.
func (r *rehearsal) end() []arena.Line {
	r.Helper()
	r.stdin.Close()
	for { // until the member has closed its standard output
		var rep report
		if r.reports.Decode(&rep) != nil {
			break
		}
	}
	if err := <-r.ended; err != nil {
		r.Fatalf("the member ended with %v", err)
	}
	stage, err := arena.NewJournal(r.dir+"/"+arena.StageLog, nil)
	if err != nil {
		r.Fatal(err)
	}
	stage.Close()
	h, err := arena.ReadHistory(r.Context(), r.dir, r.ledger)
	if err != nil {
		r.Fatalf("read its log: %v", err)
	}
	return h.Members
}

func TestMember(t *testing.T) {
	r := rehearse(t, false)
	term := r.line(arena.Entered).Term
	first := r.line(arena.Committed)
	if first.Term != term || first.Seq != 1 || first.Member != "a" || first.Number != 1 {
		t.Errorf("the first entry in term %d is %+v", term, first)
	}
	leading := r.next(func(rep report) bool { return rep.Status != nil && rep.Status.TrustLeft > 0 }).Status
	if leading.Term != term || !slices.Equal(leading.Sees, []string{"a"}) {
		t.Errorf("in term %d its status is %+v", term, leading)
	}
	if declined := r.ask(arena.Cue{Verb: arena.Resign, Term: term + 1, Arg: "1ms"}); declined == "" {
		t.Error("resigned in a term that it does not lead in")
	}
	if declined := r.ask(arena.Cue{Verb: arena.Transfer, Term: term, Arg: "nobody"}); declined == "" {
		t.Error("handed over to an unknown member")
	}
	if declined := r.ask(arena.Cue{Verb: arena.Resign, Term: term, Arg: "1ms"}); declined != "" {
		t.Errorf("declined to resign: %s", declined)
	}
	if again := r.line(arena.Entered).Term; again <= term {
		t.Errorf("leads in term %d after term %d", again, term)
	}
	r.line(arena.Committed)
	lines := r.end()
	var ends []arena.What
	for _, l := range lines {
		if l.Term > term && (l.What == arena.Exited || l.What == arena.Ceased) || l.What == arena.Left {
			ends = append(ends, l.What)
		}
	}
	slices.Sort(ends[:max(0, len(ends)-1)])
	if !slices.Equal(ends, []arena.What{arena.Ceased, arena.Exited, arena.Left}) {
		t.Errorf("the log ends with %v: the callback or its writer outlived the member, or an end was not logged", ends)
	}
	if h, err := r.ledger.Entries(t.Context()); err != nil || len(h) == 0 || h[len(h)-1].Term <= term {
		t.Errorf("the ledger holds %v, error %v", h, err)
	}
}

// crown makes b the leader in term, behind the back of whoever leads.
func crown(t *testing.T, l *arena.Ledger, term uint64) {
	t.Helper()
	storage, err := election.NewSQLStorage(l.DB, l.Names()[0])
	if err != nil {
		t.Fatal(err)
	}
	record, err := storage.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record.LeaderID, record.Term = "b", term
	if err := storage.Update(t.Context(), record, true); err != nil {
		t.Fatal(err)
	}
}

// After a freeze, here one without a stop, the leader goes on writing although
// its ctx has ended.
func TestMemberInsists(t *testing.T) {
	for unguarded, want := range map[bool]arena.What{false: arena.Refused, true: arena.Committed} {
		t.Run(string(want), func(t *testing.T) {
			r := rehearse(t, unguarded)
			term := r.line(arena.Committed).Term
			if declined := r.ask(arena.Cue{Verb: cueHold, Term: term}); declined != "" {
				t.Fatalf("declined to hold still: %s", declined)
			}
			crown(t, r.ledger, term+1)
			if declined := r.ask(arena.Cue{Verb: cueOpen}); declined != "" {
				t.Fatalf("declined to go on: %s", declined)
			}
			r.line(arena.Ceased)
			late := 0
			for _, l := range r.end() {
				if l.What == want && l.Term == term {
					late++
				}
			}
			if late < lateWrites {
				t.Errorf("%d late writes were %s, want at least %d", late, want, lateWrites)
			}
		})
	}
}

func TestMemberThatHoldsTheGateEndsToo(t *testing.T) {
	r := rehearse(t, false)
	term := r.line(arena.Committed).Term
	if declined := r.ask(arena.Cue{Verb: cueHold, Term: term}); declined != "" {
		t.Fatalf("declined to hold still: %s", declined)
	}
	r.end()
}

func TestMemberRefusesBadSettings(t *testing.T) {
	dir := t.TempDir()
	a := arena.Process{Member: "a", Number: 1}
	for _, settings := range []arena.Settings{
		{Dir: "/does/not/exist", Process: a, Venue: ownFile(dir)},
		{Dir: dir, Venue: ownFile(dir)}, // without an ID
		{Dir: dir, Process: a},
		{Dir: dir, Process: a, Venue: ownFile("/does/not/exist")},
	} {
		text, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		if err := RunMember(t.Context(), strings.NewReader(string(text)+"\n"), io.Discard); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
