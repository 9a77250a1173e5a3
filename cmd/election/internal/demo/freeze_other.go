//go:build !unix

package demo

import (
	"errors"
	"time"
)

const canFreeze = false

func (a *actor) freeze() (time.Time, error) { return time.Time{}, errors.ErrUnsupported }

func (a *actor) thaw() error { return errors.ErrUnsupported }
