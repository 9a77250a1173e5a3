package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// rehearsal is a member that runs within the test, and what it says.
type rehearsal struct {
	*testing.T
	dir     string
	ledger  *ledger
	stdin   *io.PipeWriter
	reports *json.Decoder
	ended   chan error
	before  []report // what the member said after the last cue and before it answered
}

func rehearse(t *testing.T, arguments ...string) *rehearsal {
	t.Helper()
	dir := t.TempDir()
	l := createLedger(t, ownFile(dir))
	cues, stdin := io.Pipe()
	stdout, says := io.Pipe()
	r := &rehearsal{t, dir, l, stdin, json.NewDecoder(stdout), make(chan error, 1), nil}
	go func() {
		err := RunMember(context.Background(), append([]string{"-dir", dir, "-id", "a"}, arguments...), cues, says)
		says.CloseWithError(err)
		r.ended <- err
	}()
	if _, err := io.WriteString(stdin, ownFile(dir).line()); err != nil {
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
	for {
		rep := r.hear()
		if wanted(rep) {
			return rep
		}
	}
}

func (r *rehearsal) hear() (rep report) {
	r.Helper()
	if len(r.before) > 0 {
		rep, r.before = r.before[0], r.before[1:]
		return rep
	}
	if err := r.reports.Decode(&rep); err != nil {
		r.Fatalf("the member says no more: %v", err)
	}
	return rep
}

func (r *rehearsal) line(w what) line {
	r.Helper()
	return *r.next(func(rep report) bool { return rep.Line != nil && rep.Line.What == w }).Line
}

// ask gives a cue and returns the answer's error.
func (r *rehearsal) ask(c cue) string {
	r.Helper()
	fmt.Fprintln(r.stdin, c)
	r.before = nil
	var before []report
	rep := r.next(func(rep report) bool {
		before = append(before, rep)
		return rep.Answer != nil
	})
	r.before = before
	if rep.Answer.Cue != c.verb {
		r.Errorf("asked to %s, answered to %s", c.verb, rep.Answer.Cue)
	}
	return rep.Answer.Err
}

// end closes the member's standard input, and returns its log.
func (r *rehearsal) end() []line {
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
	lines, torn, err := readLog(process{"a", 1}.log(r.dir))
	if err != nil || torn {
		r.Fatalf("read its log: torn %v, error %v", torn, err)
	}
	return lines
}

func TestMember(t *testing.T) {
	r := rehearse(t)
	term := r.line(entered).Term
	first := r.line(committed)
	if first.Term != term || first.Seq != 1 || first.Member != "a" || first.Run != 1 {
		t.Errorf("the first entry in term %d is %+v", term, first)
	}
	leading := r.next(func(rep report) bool { return rep.Status != nil && rep.Status.TrustLeft > 0 }).Status
	if leading.Term != term || !slices.Equal(leading.Sees, []string{"a"}) {
		t.Errorf("in term %d its status is %+v", term, leading)
	}
	if declined := r.ask(cue{cueResign, term + 1, "1ms"}); declined == "" {
		t.Error("resigned in a term that it does not lead in")
	}
	if declined := r.ask(cue{cueTransfer, term, "nobody"}); declined == "" {
		t.Error("handed over to an unknown member")
	}
	if declined := r.ask(cue{cueResign, term, "1ms"}); declined != "" {
		t.Errorf("declined to resign: %s", declined)
	}
	if again := r.line(entered).Term; again <= term {
		t.Errorf("leads in term %d after term %d", again, term)
	}
	r.line(committed)
	lines := slices.DeleteFunc(r.end(), func(l line) bool { return l.What == troubled }) // a busy machine may be too slow at times
	if last := lines[len(lines)-1]; last.What != exited {
		t.Errorf("the log ends with %+v: the callback outlived the member, or its end was not logged", last)
	}
	if h, err := r.ledger.entries(t.Context()); err != nil || len(h) == 0 || h[len(h)-1].Term <= term {
		t.Errorf("the ledger holds %v, error %v", h, err)
	}
}

// After a freeze, here one without a stop, the leader goes on writing although
// its ctx has ended.
func TestMemberInsists(t *testing.T) {
	for _, arguments := range [][]string{nil, {"-unguarded"}} {
		t.Run(fmt.Sprint(arguments), func(t *testing.T) {
			r := rehearse(t, arguments...)
			term := r.line(committed).Term
			if declined := r.ask(cue{cueHold, term, ""}); declined != "" {
				t.Fatalf("declined to hold still: %s", declined)
			}
			// Behind the back of the one that leads.
			crown(t, storageOf(t, r.ledger), "b", term+1)
			if declined := r.ask(cue{verb: cueOpen}); declined != "" {
				t.Fatalf("declined to go on: %s", declined)
			}
			want := refused
			if len(arguments) > 0 {
				want = committed
			}
			r.next(func(rep report) bool { return rep.Line != nil && rep.Line.What == exited })
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
	r := rehearse(t)
	term := r.line(committed).Term
	if declined := r.ask(cue{cueHold, term, ""}); declined != "" {
		t.Fatalf("declined to hold still: %s", declined)
	}
	r.end()
}

func TestMemberRefusesBadArguments(t *testing.T) {
	dir := t.TempDir()
	first := ownFile(dir).line()
	for _, c := range []struct {
		arguments []string
		stdin     string
	}{
		{[]string{"-nonsense"}, first},
		{[]string{"-dir", "/does/not/exist", "-id", "a"}, first},
		{[]string{"-dir", dir, "-id", ""}, first},
		{[]string{"-dir", dir, "-id", "a"}, ""},
		{[]string{"-dir", dir, "-id", "b"}, "hold 3\n"},
	} {
		if err := RunMember(t.Context(), c.arguments, strings.NewReader(c.stdin), io.Discard); err == nil {
			t.Errorf("%v with input %q was accepted", c.arguments, c.stdin)
		}
	}
}
