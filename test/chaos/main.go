//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == memberCommand {
		exit(runMember(os.Stdin))
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, err = run(ctx, os.Stdout, o)
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(arguments []string) (o options, err error) {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.DurationVar(&o.duration, "duration", 10*time.Minute, "how long each engine runs")
	flags.Uint64Var(&o.seed, "seed", 0, "what the faults are drawn from (default: at random)")
	flags.IntVar(&o.members, "members", 4, "how many members there are, 2 to 26")
	flags.BoolVar(&o.keep, "keep", false, "keep the logs in any case")
	flags.StringVar(&o.commit, "commit", "", "the commit that the table names")
	engines := flags.String("engines", strings.Join(allEngines, ","), "where")
	broken := flags.String("break", "", `"guard": write to the ledger without it, which must be found`)
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	o.engines = strings.Split(*engines, ",")
	o.unguarded = *broken == "guard"
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000)
	}
	for _, engine := range o.engines {
		if !slices.Contains(allEngines, engine) {
			return o, fmt.Errorf("-engines: %q is none of %s", engine, strings.Join(allEngines, ", "))
		}
	}
	switch {
	case *broken != "" && !o.unguarded:
		return o, fmt.Errorf(`-break: only the guard can be broken, not %q`, *broken)
	case o.members < 2 || o.members > 26:
		return o, fmt.Errorf("-members must be 2 to 26, is %d", o.members)
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, nil
}
