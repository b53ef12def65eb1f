package main

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) taskCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "task", Short: "Look at tasks and cancel them"}
	cmd.AddCommand(a.taskListCommand(), a.taskGetCommand(), a.taskCancelCommand(), a.logsCommand())
	return cmd
}

func (a *app) taskListCommand() *cobra.Command {
	const usual = 100
	var f client.TaskFilter
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List tasks, newest first", Args: cobra.NoArgs,
		Example: `  aether-cli task list --vm my-vm
  aether-cli task list --state pending --state queued --state running
  aether-cli task list --type vm:create --limit 10 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Limit < 0 {
				return usagef("--limit %d is negative: use 0 for all tasks", f.Limit)
			}
			tasks, err := a.client.ListTasks(cmd.Context(), f)
			if err != nil {
				return err
			}
			return printList(a, taskTable, tasks)
		},
	}
	cmd.Flags().StringArrayVar(&f.States, "state", nil, "only tasks in this state; may be repeated")
	cmd.Flags().StringArrayVar(&f.Types, "type", nil, "only tasks of this type, as vm:create; may be repeated")
	cmd.Flags().StringVar(&f.VM, "vm", "", "only tasks of this VM")
	cmd.Flags().IntVar(&f.Limit, "limit", usual, "at most so many; 0 for all")
	complete(cmd, "state", completeTaskState)
	complete(cmd, "type", completeTaskType)
	complete(cmd, "vm", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.vmNames(cmd, nil), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (a *app) taskGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get TASK…", Short: "Show tasks", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeTask,
		Example: "  aether-cli task get $TASK -o yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return printEach(a, taskTable, args, func(id string) (types.Task, error) { return a.client.GetTask(cmd.Context(), id, 0) })
		},
	}
}

func (a *app) taskCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel TASK…", Short: "Cancel tasks", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeTask,
		Example: "  aether-cli task cancel $TASK",
		RunE: func(cmd *cobra.Command, args []string) error {
			return printEach(a, taskTable, args, func(id string) (types.Task, error) { return a.client.CancelTask(cmd.Context(), id) })
		},
	}
}

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var stream string
	cmd := &cobra.Command{
		Use: "logs TASK", Short: "Print a command's output", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeTask,
		Long: `logs prints what a command has written, its standard output and standard error
each to our own. With -f it goes on until the task has ended, also past a restart
of the server. That the record was cut is told on standard error.`,
		Example: `  aether-cli task logs $TASK
  aether-cli task logs -f --stream stdout $TASK > out.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			s := types.Stream(stream)
			if s != "" && s != types.Stdout && s != types.Stderr {
				return usagef("--stream %q is no stream: use stdout or stderr", stream)
			}
			return a.logs(ctx, args[0], s, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the task has ended")
	cmd.Flags().StringVar(&stream, "stream", "", "stdout or stderr; both if empty")
	complete(cmd, "stream", oneOf([]types.Stream{types.Stdout, types.Stderr}))
	return cmd
}

func (a *app) logs(ctx context.Context, taskID string, stream types.Stream, follow bool) error {
	var t types.Task
	var err error
	if follow {
		t, err = a.client.FollowOutput(ctx, taskID, stream, 0, a.printChunk)
	} else if err = a.client.Output(ctx, taskID, stream, a.printChunk); err == nil {
		t, err = a.client.GetTask(ctx, taskID, 0)
	}
	if err != nil {
		return err
	}
	var r types.ExecResult
	if len(t.Result) > 0 && json.Unmarshal(t.Result, &r) == nil && r.OutputTruncated {
		a.say("the record was cut: the command wrote %d bytes to standard output and %d to standard error", r.StdoutBytes, r.StderrBytes)
	}
	return nil
}

func (a *app) printChunk(c types.OutputChunk) error {
	w := a.out
	if c.Stream == types.Stderr {
		w = a.err
	}
	_, err := w.Write(c.Data)
	if err != nil {
		return types.Errorf(types.KindInvalid, "the output cannot be written: %w", err)
	}
	return nil
}
