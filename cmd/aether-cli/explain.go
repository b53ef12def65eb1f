package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/types"
)

// exitCode is the error of a command that ran and failed in its VM: its own code,
// and nothing to say about it.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is wrong use of the program.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

const (
	exitUsage       = 2
	exitHangup      = 129 // 128 + the signal, as shells have it
	exitInterrupted = 130
)

// explain tells an error, each part in one line, and answers the exit code of
// the first.
func (a *app) explain(err error) int {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // joined at the top only
		code := 0
		for _, part := range joined.Unwrap() {
			if c := a.explain(part); code == 0 {
				code = c
			}
		}
		return code
	}
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted) {
		return exitInterrupted
	}
	if usage, ok := errors.AsType[usageError](err); ok {
		a.say("%s", usage)
		return exitUsage
	}
	e := types.AsError(err)
	a.say("%s", sentence(e))
	return types.TraitOf(e.Kind).ExitCode
}

// sentence says what is wrong with what, and what to do about it.
func sentence(e *types.Error) string {
	s := e.Message
	switch {
	case e.Field != "" && e.Value != "":
		s = fmt.Sprintf("%s %q: %s", e.Field, e.Value, e.Message)
	case e.Field != "":
		s = fmt.Sprintf("%s: %s", e.Field, e.Message)
	}
	if e.Remedy != "" {
		s += " (" + e.Remedy + ")"
	}
	return s
}

// oneLine makes text harmless to a terminal: it may be a guest's.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return '\uFFFD'
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// asUsage makes cobra's own complaints usage errors that say where to look.
func asUsage(cmd *cobra.Command) *cobra.Command {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, c.CommandPath())
	})
	switch args := cmd.Args; {
	case args != nil:
		cmd.Args = func(c *cobra.Command, given []string) error {
			if err := args(c, given); err != nil {
				return usagef("%s: %w; see %s --help", c.Name(), err, c.CommandPath())
			}
			return nil
		}
	case cmd.HasSubCommands():
		cmd.Args = unknownCommand
		if cmd.RunE == nil && cmd.Run == nil {
			cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	for _, sub := range cmd.Commands() {
		asUsage(sub)
	}
	return cmd
}

func unknownCommand(c *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	const typos = 2
	c.SuggestionsMinimumDistance = typos
	hint := "; see " + c.CommandPath() + " --help"
	if s := c.SuggestionsFor(given[0]); len(s) > 0 {
		hint = "; did you mean " + strings.Join(s, " or ") + "?"
	}
	return usagef("unknown command %q for %s%s", given[0], c.CommandPath(), hint)
}
