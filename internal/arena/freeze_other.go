//go:build !unix

package arena

import "errors"

// CanFreeze reports whether this system can stop a process.
const CanFreeze = false

// Freeze returns errors.ErrUnsupported.
func (a *Actor) Freeze() error { return errors.ErrUnsupported }

// Thaw returns errors.ErrUnsupported.
func (a *Actor) Thaw() error { return errors.ErrUnsupported }
