// Command election shows and inspects leader elections over a SQL database.
//
//	election demo      plays an election of three processes, and prints what happened and a verdict
//	election doctor    examines a database, and prints a report
//	election version   prints the version of the program
//
// Run it without arguments for a list of its commands. What a command has to say goes to standard
// output, errors and mistakes in the command line go to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/sqlelect/election/internal/sqldb"
)

// The exit statuses, besides 130 for an interrupt:
//
//   - exitOK: the command did its work, and found nothing that must not be
//   - exitFailed: a promise of the demo or a check of the doctor failed, or the command itself did
//   - exitUsage: the command line is wrong, or the doctor found no database to examine
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// command is one subcommand.
type command struct {
	name    string
	summary string // "" keeps it out of the usage text
	run     func(ctx context.Context, c console, args []string) error
}

// console is what a command talks to. Tests put buffers there. Standard input is read only for the
// DSN, and by a member of the demo.
type console struct {
	in       io.Reader
	out, err io.Writer
}

func commands() []command {
	return []command{
		{"demo", "elect, resign, transfer, kill and freeze leaders on this machine, and judge what happened", runDemo},
		{"doctor", "examine whether a database is fit for elections", runDoctor},
		{"version", "print the version of this program", runVersion},
		memberCommand(),
	}
}

func main() {
	os.Exit(run(console{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
}

// run finds and runs a command, and returns the exit status. Help that was asked for goes to
// standard output with status 0. Without a command, or with one that does not exist, the list goes
// to standard error with status 2.
func run(c console, args []string) int {
	if len(args) == 0 {
		usage(c.err)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) == 0 {
			usage(c.out)
			return exitOK
		}
		// Each command prints its own usage text: "help doctor" is "doctor -help".
		name, args = args[0], []string{"-help"}
	}
	for _, command := range commands() {
		if command.name == name {
			ctx, stop := interruptible()
			defer stop()
			return status(c, command.run(ctx, c, args))
		}
	}
	fmt.Fprintf(c.err, "election: unknown command %q\n\n", name)
	usage(c.err)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Usage: election <command> [flags]\n\nCommands:\n")
	for _, command := range commands() {
		if command.summary != "" {
			fmt.Fprintf(w, "  %-9s %s\n", command.name, command.summary)
		}
	}
	fmt.Fprint(w, "\n\"election help <command>\" tells more about one.\n")
}

// usageError is a mistake in the command line that has been shown already.
type usageError struct{ error }

// status turns a command's error into an exit status, and shows it, except for an error that has
// been shown before.
func status(c console, err error) int {
	var interrupted interruptError
	switch {
	// Help that was asked for has been printed by then.
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, new(usageError)):
		return exitUsage
	}
	fmt.Fprintf(c.err, "election: %v\n", err)
	if errors.As(err, new(unreachableError)) {
		return exitUsage
	}
	if errors.As(err, &interrupted) {
		return interrupted.status()
	}
	return exitFailed
}

// parse reads a command's flags; it takes no other arguments. Help goes to standard output,
// complaints to standard error. Package flag itself would print the usage text to one place for
// both, so it is silenced while it parses.
func parse(c console, flags *flag.FlagSet, args []string) error {
	usage := flags.Usage
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	flags.Usage = usage
	if err == nil && flags.NArg() > 0 {
		// A DSN without its flag is an easy mistake, and may hold a password.
		err = fmt.Errorf("unexpected argument %q", sqldb.Redact(flags.Arg(0)))
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(c.out)
		usage()
		return err
	}
	return misused(c, flags, err)
}

// misused shows a mistake in the command line, and how the command is used. The error that it
// returns leads to status 2, and is not shown again.
func misused(c console, flags *flag.FlagSet, err error) error {
	flags.SetOutput(c.err)
	fmt.Fprintf(c.err, "election %s: %v\n\n", flags.Name(), err)
	flags.Usage()
	return usageError{err}
}
