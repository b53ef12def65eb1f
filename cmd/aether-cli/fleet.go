package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) workerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "worker", Short: "Look at workers"}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Aliases: []string{"ls"}, Short: "List workers", Args: cobra.NoArgs,
			Example: "  aether-cli worker list",
			RunE: func(cmd *cobra.Command, _ []string) error {
				workers, err := a.client.ListWorkers(cmd.Context())
				if err != nil {
					return err
				}
				return printList(a, workerTable, workers)
			},
		},
		&cobra.Command{
			Use: "get WORKER…", Short: "Show workers", Args: cobra.MinimumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
			Example: "  aether-cli worker get $WORKER -o yaml",
			RunE: func(cmd *cobra.Command, args []string) error {
				return printEach(a, workerTable, args, func(id string) (types.Worker, error) { return a.client.GetWorker(cmd.Context(), id) })
			},
		})
	return cmd
}

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Look at images and pull them"}
	cmd.AddCommand(a.imagePullCommand(), &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the images that workers have", Args: cobra.NoArgs,
		Example: "  aether-cli image list",
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

func (a *app) imagePullCommand() *cobra.Command {
	var worker string
	var wait, noWait bool
	cmd := &cobra.Command{
		Use: "pull REFERENCE", Short: "Have the workers pull an image", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `pull has each ready worker pull an image, or one of them alone, so that the VMs
that use it start at once.`,
		Example: `  aether-cli image pull debian:12
  aether-cli image pull oci-archive:/srv/images/app.tar --worker $WORKER`,
		RunE: func(cmd *cobra.Command, args []string) error {
			tasks, err := a.client.PullImage(cmd.Context(), args[0], worker)
			if err != nil {
				return err
			}
			var errs []error
			for i := range tasks {
				if wait && !noWait {
					tasks[i], err = a.finish(cmd.Context(), tasks[i])
					errs = append(errs, err)
				}
			}
			return errors.Join(append(errs, printList(a, taskTable, tasks))...)
		},
	}
	cmd.Flags().StringVar(&worker, "worker", "", "this worker alone, by its id")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until they have it")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "print the tasks and do not wait, as --wait=false")
	return cmd
}

func (a *app) eventsCommand() *cobra.Command {
	var f client.EventFilter
	cmd := &cobra.Command{
		Use: "events", Short: "Print what happens, as it happens", Args: cobra.NoArgs,
		Long: `events prints each change of a VM, task or worker from now on, until Ctrl-C, also
past a restart of the server. -o json prints one object a line.`,
		Example: `  aether-cli events
  aether-cli events --vm my-vm --type vm.state -o json | jq .state`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return a.client.Events(ctx, f, a.printEvent)
		},
	}
	cmd.Flags().StringVar(&f.VM, "vm", "", "only events of this VM")
	cmd.Flags().StringVar(&f.Task, "task", "", "only events of this task")
	cmd.Flags().StringArrayVar(&f.Types, "type", nil, "only events of this type, as vm.state; may be repeated")
	complete(cmd, "type", oneOf([]string{types.EventVMState, types.EventTaskState, types.EventWorkerState, types.EventImagePulled}))
	return cmd
}

func (a *app) printEvent(e types.Event) error {
	switch a.output {
	case "id":
		_, err := fmt.Fprintln(a.out, e.ID)
		return err
	case "json":
		return a.encodeLine(e)
	case "yaml":
		if _, err := fmt.Fprintln(a.out, "---"); err != nil {
			return err
		}
		return a.encode(e)
	}
	what := ""
	for _, part := range []struct{ name, id string }{{"vm", e.VMID}, {"task", e.TaskID}, {"worker", e.WorkerID}} {
		if part.id != "" {
			what += " " + part.name + "=" + part.id
		}
	}
	_, err := fmt.Fprintf(a.out, "%s  %-12s %-10s%s %s\n", e.At.Format("15:04:05.000"), e.Type, e.State, what, oneLine(e.Reason))
	return err
}
