package main

import (
	"encoding/json"
	"fmt"

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
	f := client.TaskFilter{Limit: 100}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List tasks, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tasks, err := a.client.ListTasks(cmd.Context(), f)
			if err != nil {
				return err
			}
			return printList(a, taskTable, tasks)
		},
	}
	cmd.Flags().StringArrayVar(&f.States, "state", nil, "only tasks in this state")
	cmd.Flags().StringArrayVar(&f.Types, "type", nil, "only tasks of this type")
	cmd.Flags().StringVar(&f.VM, "vm", "", "only tasks of this VM")
	cmd.Flags().IntVar(&f.Limit, "limit", f.Limit, "at most so many; 0 for all")
	return cmd
}

func (a *app) taskGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get TASK", Short: "Show a task", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.client.GetTask(cmd.Context(), args[0], 0)
			if err != nil {
				return err
			}
			return printOne(a, taskTable, t)
		},
	}
}

func (a *app) taskCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel TASK…", Short: "Cancel tasks", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				t, err := a.client.CancelTask(cmd.Context(), id)
				if err != nil {
					return err
				}
				if err := printOne(a, taskTable, t); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var stream string
	cmd := &cobra.Command{
		Use: "logs TASK", Short: "Print a task's output", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := types.Stream(stream)
			if s != "" && s != types.Stdout && s != types.Stderr {
				return usageError{fmt.Errorf("--stream %q is no stream: use stdout or stderr", stream)}
			}
			print := a.printChunk
			if follow {
				_, err := a.client.FollowOutput(cmd.Context(), args[0], s, print)
				return err
			}
			return a.client.Output(cmd.Context(), args[0], s, print)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the task has ended")
	cmd.Flags().StringVar(&stream, "stream", "", "stdout or stderr; both if empty")
	return cmd
}

func (a *app) printChunk(c types.OutputChunk) error {
	w := a.out
	if c.Stream == types.Stderr {
		w = a.err
	}
	_, err := w.Write(c.Data)
	return err
}

// endOf is a command's end, from its task.
func endOf(t types.Task) client.End {
	end := client.End{Error: t.Error}
	if len(t.Result) > 0 {
		var r types.ExecResult
		if json.Unmarshal(t.Result, &r) == nil {
			end.Result = &r
		}
	}
	if end.Result == nil && end.Error == nil {
		end.Error = types.AsError(taskError(t))
	}
	return end
}

func (a *app) workerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "worker", Short: "Look at workers"}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List workers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			workers, err := a.client.ListWorkers(cmd.Context())
			if err != nil {
				return err
			}
			return printList(a, workerTable, workers)
		},
	})
	return cmd
}

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Look at images and pull them"}
	var worker string
	pull := &cobra.Command{
		Use: "pull REFERENCE", Short: "Have the workers pull an image", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tasks, err := a.client.PullImage(cmd.Context(), args[0], worker)
			if err != nil {
				return err
			}
			for i := range tasks {
				if tasks[i], err = a.finish(cmd.Context(), tasks[i]); err != nil {
					return err
				}
			}
			return printList(a, taskTable, tasks)
		},
	}
	pull.Flags().StringVar(&worker, "worker", "", "this worker alone")
	cmd.AddCommand(pull, &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := a.client.ListImages(cmd.Context())
			if err != nil {
				return err
			}
			return printList(a, imageTable, images)
		},
	})
	return cmd
}

func (a *app) eventsCommand() *cobra.Command {
	var vm, task string
	cmd := &cobra.Command{
		Use: "events", Short: "Print what happens, as it happens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.client.Events(cmd.Context(), vm, task, func(e types.Event) error {
				if a.output == "json" || a.output == "yaml" {
					return a.encode(e)
				}
				_, err := fmt.Fprintf(a.out, "%s  %-12s %-10s vm=%s task=%s %s\n", e.At.Format("15:04:05.000"), e.Type, e.State, e.VMID, e.TaskID, e.Reason)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&vm, "vm", "", "only events of this VM")
	cmd.Flags().StringVar(&task, "task", "", "only events of this task")
	return cmd
}
