package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
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

// Options are what the command line says.
type Options struct {
	Keep bool // leave the directory with the database and the logs behind
	// Unguarded has the woken leader write without the guard, which the verdict
	// must find.
	Unguarded bool
}

// Run plays the demo and writes it and the verdict to out: redrawn in place
// where out is a terminal, as lines elsewhere. It returns nil when every promise
// held, ErrBroken when one did not, and another error when the run came to no
// verdict. When it returns, every process it started has ended.
func Run(ctx context.Context, out io.Writer, options Options) (err error) {
	dir, err := os.MkdirTemp("", "election-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	defer func() {
		if options.Keep {
			fmt.Fprintf(out, "\nkept: %s\n", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errTooLong)
	defer cancel()
	if err := perform(ctx, dir, newView(out), options); err != nil {
		return err
	}
	h, err := readHistory(dir)
	if err != nil {
		return err
	}
	v := judge(h)
	if err := v.print(out); err != nil {
		return err
	}
	if v.broken() > 0 {
		return ErrBroken
	}
	return nil
}

// perform plays the script in dir, and ends all processes in any case.
func perform(ctx context.Context, dir string, v view, options Options) (err error) {
	s := &stage{
		dir:      dir,
		view:     v,
		farewell: farewell,
		began:    time.Now(),
		messages: make(chan message),
		redraw:   time.NewTicker(redrawInterval),
	}
	defer s.redraw.Stop()
	if options.Unguarded {
		s.arguments = []string{"-unguarded"}
	}
	for _, id := range []string{"a", "b", "c"} {
		s.seats = append(s.seats, &seat{id: id})
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	err = s.play(ctx)
	err = errors.Join(err, s.curtain(), s.journal.close())
	v.close(s.board())
	return err
}
