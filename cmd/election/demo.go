package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/sqlelect/election/cmd/election/internal/demo"
)

const demoUsage = `Usage: election demo [--dsn DSN | --dsn-file FILE] [--keep]

Three processes on this machine elect a leader: over one SQLite file, in a
directory of its own, or over tables in a database of yours. Whoever leads
appends guarded entries to a ledger. Step by step a leader resigns, hands over to
a member it names, is killed, and is frozen past its lease and woken, when it
tries to go on writing.

In the end a verdict is computed from the ledger and the log files alone: how
long each hand-over took, and whether every promise held. It takes about 15
seconds. The exit status is 0 if every promise held, 1 otherwise.

In a database of yours it creates three tables, whose names begin with
election_demo_ and a random number, and drops them in the end, also after an
error or Ctrl-C. It touches nothing else there.

Flags:
  --keep           leave the tables, and the directory with the logs, and say
                   where they are
` + dsnUsage

// runDemo plays the demo, and prints each step and the verdict. Without a DSN the demo has an
// SQLite file of its own. Status 0 means that every promise held. Status 1 means that one did not
// (demo.ErrBroken), or that the run came to no verdict. Ctrl-C gives 130.
func runDemo(ctx context.Context, c console, args []string) error {
	var options demo.Options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	var database dsnFlags
	database.register(flags)
	flags.BoolVar(&options.Keep, "keep", false, "")
	// The flag is not in the usage text. It has the woken leader write without the guard, which
	// proves that the verdict finds what it looks for.
	flags.Func("break", "", func(part string) error {
		if part != "guard" {
			return fmt.Errorf("no part %q to break", part)
		}
		options.Unguarded = true
		return nil
	})
	flags.Usage = func() { fmt.Fprint(flags.Output(), demoUsage) }
	if err := parse(c, flags, args); err != nil {
		return err
	}
	if err := database.check(); err != nil {
		return misused(c, flags, err)
	}
	var err error
	if options.DSN, err = database.read(c.in); err != nil {
		return err
	}
	return demo.Run(ctx, c.out, options)
}

// memberCommand is how the demo runs this program as one of its members. It is not in the usage
// text, because a member gets its settings and its cues from the demo.
func memberCommand() command {
	return command{name: demo.MemberCommand, run: func(_ context.Context, c console, _ []string) error {
		// The ctx of the signals is not passed on. A member ends when the demo tells it to: Ctrl-C
		// reaches the demo, which first thaws and dismisses its members.
		return demo.RunMember(context.Background(), c.in, c.out)
	}}
}
