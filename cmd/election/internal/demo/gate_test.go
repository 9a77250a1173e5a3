package demo

import (
	"context"
	"errors"
	"testing"

	"github.com/sqlelect/election"
)

// calls is a storage that counts its calls.
type calls struct{ gets, updates int }

func (c *calls) Get(context.Context) (*election.Record, error) {
	c.gets++
	return &election.Record{}, nil
}

func (c *calls) Update(context.Context, *election.Record, bool) error {
	c.updates++
	return election.ErrRecordConflict
}

func TestGatedStoragePasses(t *testing.T) {
	inner := &calls{}
	s := gatedStorage{inner, newGate()}
	for range 3 { // a gate that was not left would stop the second one
		if _, err := s.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), &election.Record{}, false); !errors.Is(err, election.ErrRecordConflict) {
			t.Fatalf("the storage's error came out as %v", err)
		}
	}
	if inner.gets != 3 || inner.updates != 3 {
		t.Errorf("got %d gets and %d updates", inner.gets, inner.updates)
	}
}

func TestHeldGateStopsEverything(t *testing.T) {
	inner := &calls{}
	s := gatedStorage{inner, newGate()}
	if err := s.gate.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(over); !errors.Is(err, context.Canceled) {
		t.Errorf("Get before a held gate: %v", err)
	}
	if err := s.Update(over, &election.Record{}, true); !errors.Is(err, context.Canceled) {
		t.Errorf("Update before a held gate: %v", err)
	}
	if inner.gets+inner.updates != 0 {
		t.Errorf("%+v passed a held gate", *inner)
	}
	s.gate.leave()
	if _, err := s.Get(t.Context()); err != nil {
		t.Errorf("Get after the gate was left: %v", err)
	}
}
