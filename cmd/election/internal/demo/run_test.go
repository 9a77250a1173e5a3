package demo

import (
	"context"
	"errors"
	"io"
	"testing"
)

func TestRunSaysWhyItWasEnded(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	reason := errors.New("time is up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	for _, options := range []Options{{}, {DSN: "sqlite:" + t.TempDir() + "/demo.db"}} {
		if err := Run(ctx, io.Discard, options); !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: error %v", options, err)
		}
	}
}
