package main

import (
	"context"
	"flag"
	"fmt"
	"runtime/debug"
)

const versionUsage = `Usage: election version

Prints the version of this program, the revision it was built from where that is
known, and the version of Go that built it.
`

// runVersion prints one line, and has status 0 also if nothing is known of the build. It ignores
// ctx, because it waits for nothing.
func runVersion(_ context.Context, c console, args []string) error {
	flags := flag.NewFlagSet("version", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), versionUsage) }
	if err := parse(c, flags, args); err != nil {
		return err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		// Some build systems leave no information in the binary.
		info = &debug.BuildInfo{}
	}
	_, err := fmt.Fprintln(c.out, versionOf(info))
	return err
}

// versionOf describes a build in one line: the module's version, the first 12 digits of the
// revision and the version of Go, as far as they are known.
func versionOf(info *debug.BuildInfo) string {
	version := info.Main.Version
	if version == "" {
		version = "(unknown)"
	}
	text := "election " + version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && s.Value != "" {
			text += " " + s.Value[:min(len(s.Value), 12)]
		}
	}
	if info.GoVersion != "" {
		text += " " + info.GoVersion
	}
	return text
}
