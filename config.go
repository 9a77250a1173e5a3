package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"time"

	"github.com/sqlelect/election/internal/rows"
)

// Defaults of the durations in [Config]. They satisfy every rule that
// [Config.AdjustAndValidate] checks.
const (
	DefaultLeaseDuration = 10 * time.Second
	DefaultRenewInterval = 2 * time.Second
	DefaultRenewDeadline = 8 * time.Second
)

// MaxLeaseDuration is the longest LeaseDuration that a Config may have. An observer counts a longer
// lease in an entry as this one, so a leader must not trust itself for longer.
const MaxLeaseDuration = 24 * time.Hour

// minRenewTime is the shortest time from a renewal that is due to the end of the trust. Three
// rounds have to fit into it, each with 1 ms.
const minRenewTime = 3 * time.Millisecond

// forever replaces every longer duration, because a longer one, added to a moment, could overflow.
const forever = 100 * 365 * 24 * time.Hour

const (
	maxIDBytes     = 255     // what the leader_id column holds on every engine
	maxTextBytes   = 1 << 10 // Name and Address, each
	maxLabelsBytes = 4 << 10 // all labels together: every renewal writes them
)

// Config describes one member of one election. ID, Storage and LeaderCallback
// are required; every other zero value has a documented default.
type Config struct {
	// ID names this member. Required. It has at most 255 bytes of valid UTF-8 without NUL, and is
	// compared byte for byte. It is unique among the members: a second live process with the same
	// ID gets ErrDuplicateMember.
	ID string
	// Name is a label for people. It may be empty and need not be unique. At most 1 KiB.
	Name string
	// Address is where other members or clients reach this one. The library stores it in the
	// member's entry and never dials it. It may be empty. At most 1 KiB.
	Address string

	// Storage holds the election's record. Required.
	Storage Storage
	// LeaderCallback runs each time this member becomes leader. Required. One Elector runs at most
	// one callback at a time.
	//
	// When the leadership ends, ctx ends. Its cause (context.Cause) is one of this package's
	// errors, such as ErrLeaseExpired, or the cause of RunElection's ctx. The callback must then
	// return promptly: after a lost lease within LeaseDuration - RenewDeadline (2s by default), or
	// another member's callback may run beside it. On every other path this member goes on
	// renewing until the callback has returned.
	//
	// A callback that returns earlier gives the leadership up. This member then does not campaign
	// for two RenewIntervals, doubled with each short reign in a row, up to LeaseDuration. An
	// error makes no difference to that: it is only reported, as the Err of EventCallbackReturn.
	LeaderCallback func(ctx context.Context) error

	// LeaseDuration is how long the other members leave a silent leader alone.
	// Default 10s, at most 24h. The other defaults do not follow it: set all three durations
	// together, such as 5s, 1s and 4s. None of them may be negative.
	LeaseDuration time.Duration
	// RenewInterval is the time between two renewals, and between two reads of the record. Default
	// 2s. It must be shorter than RenewDeadline, by at least 3 ms.
	RenewInterval time.Duration
	// RenewDeadline is how long a leader trusts its last acknowledged renewal,
	// counted from the start of that renewal. Default 8s; at most
	// LeaseDuration - RenewInterval.
	RenewDeadline time.Duration
	// ExitOnRenewFail makes RunElection return an error when a leader loses its lease. Otherwise
	// the member goes on as a follower.
	ExitOnRenewFail bool
	// StopTimeout is when a callback that has not returned is an overrun (see StateOverrun),
	// counted from the end of its ctx. This member then lets its lease lapse. Default:
	// LeaseDuration. After a lost lease a callback has less time, see LeaderCallback.
	StopTimeout time.Duration

	// Labels are stored in the member's entry, for routing. All keys and values together have at
	// most 4 KiB of valid UTF-8 without NUL; no key is empty. The map is copied.
	Labels map[string]string

	// Logger receives one line per Event; nil discards them.
	Logger *slog.Logger
	// OnEvent receives the events one at a time, on a goroutine of its own; nil discards them.
	// Events wait for it in a bounded queue. When the queue is full, further events are dropped and
	// counted (EventDropped), so a slow receiver never delays the election.
	OnEvent func(Event)
}

// AdjustAndValidate sets each duration that is zero to its default, and checks every rule. The
// error names the field and the rule that it breaks. After an error some defaults may have been
// set, and nothing else has changed.
func (c *Config) AdjustAndValidate() error {
	setDefault(&c.LeaseDuration, DefaultLeaseDuration)
	setDefault(&c.RenewInterval, DefaultRenewInterval)
	setDefault(&c.RenewDeadline, DefaultRenewDeadline)
	setDefault(&c.StopTimeout, c.LeaseDuration)
	for _, check := range []func() error{c.validateIdentity, c.validateParts, c.validateDurations} {
		if err := check(); err != nil {
			return fmt.Errorf("election: invalid config: %w", err)
		}
	}
	return nil
}

func (c *Config) validateIdentity() error {
	if c.ID == "" {
		return errors.New("ID must not be empty")
	}
	for _, f := range []struct {
		field, value string
		max          int
	}{{"ID", c.ID, maxIDBytes}, {"Name", c.Name, maxTextBytes}, {"Address", c.Address, maxTextBytes}} {
		if err := rows.CheckText(f.field, f.value, f.max); err != nil {
			return err
		}
	}
	size := 0
	for key, value := range c.Labels {
		if key == "" {
			return errors.New("Labels must not have an empty key")
		}
		for _, text := range []string{key, value} {
			if err := rows.CheckText("Labels", text, maxLabelsBytes); err != nil {
				return err
			}
		}
		size += len(key) + len(value)
	}
	if size > maxLabelsBytes {
		return fmt.Errorf("Labels must hold at most %d bytes, have %d", maxLabelsBytes, size)
	}
	return nil
}

func (c *Config) validateParts() error {
	if isNil(c.Storage) {
		return errors.New("Storage must not be nil")
	}
	if c.LeaderCallback == nil {
		return errors.New("LeaderCallback must not be nil")
	}
	return nil
}

func (c *Config) validateDurations() error {
	for _, f := range []struct {
		field string
		value time.Duration
	}{
		{"LeaseDuration", c.LeaseDuration}, {"RenewInterval", c.RenewInterval},
		{"RenewDeadline", c.RenewDeadline}, {"StopTimeout", c.StopTimeout},
	} {
		if f.value < 0 {
			return fmt.Errorf("%s must not be negative, is %v", f.field, f.value)
		}
	}
	switch {
	case c.LeaseDuration > MaxLeaseDuration:
		return fmt.Errorf("LeaseDuration must be at most %v, is %v", MaxLeaseDuration, c.LeaseDuration)
	case c.RenewInterval > c.RenewDeadline-minRenewTime:
		return fmt.Errorf("RenewInterval (%v) must be shorter than RenewDeadline (%v), by at least %v",
			c.RenewInterval, c.RenewDeadline, minRenewTime)
	case c.RenewDeadline > c.LeaseDuration-c.RenewInterval:
		return fmt.Errorf("RenewDeadline (%v) must be at most LeaseDuration - RenewInterval (%v - %v)",
			c.RenewDeadline, c.LeaseDuration, c.RenewInterval)
	}
	return nil
}

// clone returns a copy that shares no map with c.
func (c Config) clone() Config {
	c.Labels = maps.Clone(c.Labels)
	return c
}

func setDefault(field *time.Duration, value time.Duration) {
	if *field == 0 {
		*field = value
	}
}

// isNil reports whether s is nil or holds a nil pointer. A nil pointer inside the interface is the
// usual result of an ignored constructor error.
func isNil(s Storage) bool {
	if s == nil {
		return true
	}
	v := reflect.ValueOf(s)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
