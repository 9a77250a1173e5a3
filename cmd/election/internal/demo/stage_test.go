package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// roleVariable says what the test program plays when the stage starts it as a
// member; it is a member where the variable is not set.
const roleVariable = "ELECTION_DEMO_TEST_ROLE"

// TestMain lets the stage, which starts its own program as members, work in this
// test's program too.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != MemberCommand {
		os.Exit(m.Run())
	}
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		err = RunMember(context.Background(), os.Stdin, os.Stdout)
	case "crash":
		err = errors.New("these are my last words")
	case "quit": // status 0, before it was dismissed
	case "deaf": // neither speaks nor listens
		select {}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

// performed plays the demo with members of a role, and returns its error.
func performed(t *testing.T, ctx context.Context, role string) error {
	t.Helper()
	t.Setenv(roleVariable, role)
	dir := t.TempDir()
	return perform(ctx, dir, ownFile(dir), lines{io.Discard}, Options{})
}

func TestCrashOfMember(t *testing.T) {
	err := performed(t, t.Context(), "crash")
	if err == nil {
		t.Fatal("the crash of a member went unnoticed")
	}
	for _, want := range []string{"three processes elect", "ended unexpectedly", "exit status 3", "these are my last words"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestEarlyEndOfMember(t *testing.T) {
	if err := performed(t, t.Context(), "quit"); err == nil || !strings.Contains(err.Error(), "it left the stage") {
		t.Errorf("got error %v", err)
	}
}

// tripwire is a view that ends the run on the first fact.
type tripwire struct {
	lines
	end func()
}

func (v tripwire) tell(time.Duration, string) { v.end() }

func TestEndOfContext(t *testing.T) {
	reason := errors.New("time is up")
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	createLedger(t, dir)
	err := perform(ctx, dir, ownFile(dir), tripwire{lines{io.Discard}, func() { cancel(reason) }}, Options{})
	if !errors.Is(err, reason) || !strings.Contains(err.Error(), "waiting until all members have joined") {
		t.Errorf("got error %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("somebody still uses the directory: %v", err)
	}
}

func TestStageEndsMembersThatDoNotListen(t *testing.T) {
	s := &stage{dir: t.TempDir(), view: lines{io.Discard}, farewell: time.Millisecond,
		messages: make(chan message), redraw: time.NewTicker(time.Hour), seats: []*seat{{id: "a"}, {id: "b"}}}
	t.Setenv(roleVariable, "deaf")
	for _, seat := range s.seats {
		if err := s.enter(seat); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.curtain(); err == nil || !strings.Contains(err.Error(), "did not leave in time") {
		t.Errorf("got error %v", err)
	}
	for _, seat := range s.seats {
		select {
		case <-seat.actor.Ended():
		default:
			t.Errorf("%s outlived the stage", seat.id)
		}
	}
}
