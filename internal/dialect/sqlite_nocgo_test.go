//go:build !cgo

package dialect

// cgoBusy is nil: this build has no cgo driver.
var cgoBusy error
