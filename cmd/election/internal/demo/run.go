package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sqlelect/election/internal/arena"
)

const (
	// deadline is how long a run may take; half of it is enough on a busy machine.
	deadline       = 38 * time.Second
	farewell       = 6 * time.Second
	redrawInterval = 100 * time.Millisecond
)

var (
	// ErrBroken is returned by Run when a promise did not hold.
	ErrBroken = errors.New("a promise did not hold")

	errTooLong = fmt.Errorf("the demo did not end within %v", deadline)
)

// Options are what the command line says. The zero Options run over an SQLite file that is removed
// in the end.
type Options struct {
	// DSN names the database to run in, as sqldb.Open takes it; "" means an SQLite file of the
	// run's own.
	DSN  string
	Keep bool // leave the tables, and the directory with the logs, behind
	// Unguarded has the woken leader write without the guard, which the verdict must find.
	Unguarded bool
}

// Run plays the demo and writes it and the verdict to out: redrawn in place if out is a terminal,
// as lines elsewhere. It returns nil when every promise held, ErrBroken when one did not, and
// another error when the run came to no verdict. When it returns, every process that it started has
// ended. Nothing that it says or writes holds a secret of the DSN.
func Run(ctx context.Context, out io.Writer, options Options) (err error) {
	dir, err := os.MkdirTemp("", "election-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	// The directory goes last, with the logs and the SQLite file: nothing uses them any more.
	defer func() {
		if options.Keep {
			fmt.Fprintf(out, "\nkept: %s\n", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	at := ownFile(dir)
	if options.DSN != "" {
		at = guestIn(options.DSN)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errTooLong)
	defer cancel()
	err = runAt(ctx, dir, at, out, options)
	// Errors of the run's end say what was waited for. The cause says why the run was ended: by a
	// signal, or because it took too long.
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return at.Redact(err)
}

// runAt creates the tables, plays the demo and pronounces the verdict. Tables in somebody else's
// database are dropped whatever happens, before the handle on the database is closed.
func runAt(ctx context.Context, dir string, at arena.Venue, out io.Writer, options Options) (err error) {
	l, err := arena.Open(ctx, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	// A Create that fails leaves no table behind, so the drop is deferred only after it.
	if err := l.Create(ctx); err != nil {
		return fmt.Errorf("database %q (the demo needs the right to create and drop its own tables): %w", at, err)
	}
	defer func() {
		switch {
		case own(at): // the file stays or goes with the directory
		case options.Keep:
			fmt.Fprintf(out, "\nkept: tables %s\n", strings.Join(l.Names(), ", "))
		default:
			err = errors.Join(err, l.Drop())
		}
	}()
	// Half a script proves nothing: without its end there is no verdict.
	if err := perform(ctx, dir, at, newView(out), options); err != nil {
		return err
	}
	// All processes have ended: nothing is written to the ledger or the logs any more.
	h, err := arena.ReadHistory(ctx, dir, l)
	if err != nil {
		return err
	}
	v := judge(h)
	if err := v.print(out); err != nil {
		return err
	}
	if v.Broken() > 0 {
		return ErrBroken
	}
	return nil
}

// perform plays the script in dir. It ends all processes in any case, and returns when they have
// ended. A log that could not be written is an error, because a verdict without it would be worth
// nothing.
func perform(ctx context.Context, dir string, at arena.Venue, v view, options Options) (err error) {
	s := &stage{
		dir:       dir,
		venue:     at,
		view:      v,
		unguarded: options.Unguarded,
		farewell:  farewell,
		began:     time.Now(),
		messages:  make(chan message),
		redraw:    time.NewTicker(redrawInterval),
	}
	defer s.redraw.Stop()
	for _, id := range []string{"a", "b", "c"} {
		s.seats = append(s.seats, &seat{id: id})
	}
	if s.journal, err = arena.NewJournal(filepath.Join(dir, arena.StageLog), nil); err != nil {
		return err
	}
	err = s.play(ctx)
	err = errors.Join(err, s.curtain(), s.journal.Close())
	v.close(s.board())
	return err
}
