package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// interruptError says that a signal ended the command.
type interruptError struct{ signal os.Signal }

func (e interruptError) Error() string { return fmt.Sprintf("ended by signal: %v", e.signal) }

// status is what a shell expects of a program that Ctrl-C has ended: 128 + the number of SIGINT.
// SIGTERM gives the status of any other failure.
func (e interruptError) status() int {
	if e.signal == os.Interrupt {
		return 130
	}
	return exitFailed
}

// interruptible returns a ctx that the first SIGINT or SIGTERM ends, with an interruptError as
// cause. The command then drops its tables and returns. The second signal has its usual effect, so
// a command that hangs can be ended by another Ctrl-C.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		select {
		case s := <-signals:
			cancel(interruptError{s})
		case <-ctx.Done():
		}
	}()
	// The CancelFunc also ends the goroutine, which gives the signals their usual effect back.
	return ctx, func() { cancel(nil) }
}
