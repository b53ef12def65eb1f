package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) vmCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "vm", Short: "Create VMs and manage them"}
	cmd.AddCommand(a.createCommand(), a.vmListCommand(), a.vmGetCommand(),
		a.verbCommand("start", "Start stopped VMs"),
		a.verbCommand("stop", "Stop VMs and keep their disks"),
		a.verbCommand("pause", "Freeze VMs where they are"),
		a.verbCommand("resume", "Let paused VMs go on"),
		a.verbCommand("delete", "Delete VMs and all they hold", "rm"))
	return cmd
}

func (a *app) createCommand() *cobra.Command {
	var spec types.VMSpec
	var env, labels, placement []string
	var wait, noWait bool
	cmd := &cobra.Command{
		Use: "create [NAME]", Short: "Create a VM and wait until it runs", Args: cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `create makes a VM and waits until it runs and its agent answers. The image is
host, the worker's own system without its secrets, unless another is named.`,
		Example: `  aether-cli vm create
  aether-cli vm create build --image debian:12 --vcpus 2 --memory 2048 --label team=ci
  VM=$(aether-cli vm create -o id)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				spec.Name = args[0]
			}
			var err error
			if spec.Env, err = pairs("env", env); err != nil {
				return err
			}
			if spec.Labels, err = pairs("label", labels); err != nil {
				return err
			}
			if spec.Placement, err = pairs("placement", placement); err != nil {
				return err
			}
			return a.create(cmd.Context(), spec, wait && !noWait)
		},
	}
	sizes(cmd, &spec)
	f := cmd.Flags()
	f.StringArrayVarP(&env, "env", "e", nil, "NAME=value, for every command in the VM; may be repeated")
	f.StringArrayVarP(&labels, "label", "l", nil, "key=value; may be repeated")
	f.StringArrayVar(&placement, "placement", nil, "key=value that the worker must have; may be repeated")
	f.BoolVar(&wait, "wait", true, "wait until it runs")
	f.BoolVar(&noWait, "no-wait", false, "print the VM and do not wait, as --wait=false")
	return cmd
}

// sizes are the flags that both forms of creating a VM have.
func sizes(cmd *cobra.Command, spec *types.VMSpec) {
	f := cmd.Flags()
	f.StringVar(&spec.Image, "image", "", "host, an OCI reference as debian:12, or oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR on the worker")
	f.StringVar(&spec.Runtime, "runtime", "", "runtime to use; the platform chooses if empty")
	f.IntVar(&spec.VCPUs, "vcpus", 0, "virtual CPUs (default 1)")
	f.IntVar(&spec.MemoryMiB, "memory", 0, "memory in MiB (default 512)")
	f.IntVar(&spec.DiskMiB, "disk", 0, "size of the writable disk in MiB (default 10240)")
	f.StringVar((*string)(&spec.Network), "network", "", "nat, to reach the internet, or none (default nat)")
	complete(cmd, "network", oneOf([]types.NetworkMode{types.NetworkNAT, types.NetworkNone}))
}

// pairs reads "key=value" flags.
func pairs(flag string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(list))
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usagef("--%s %q is not of the form key=value", flag, kv)
		}
		m[k] = v
	}
	return m, nil
}

// create creates a VM, waits until it runs if asked to, and prints it.
func (a *app) create(ctx context.Context, spec types.VMSpec, wait bool) error {
	began := time.Now()
	task, err := a.client.CreateVM(ctx, spec, firstWait(wait))
	if err != nil {
		return err
	}
	if wait {
		if _, err := a.finish(ctx, task); err != nil {
			return err
		}
	}
	vm, err := a.client.GetVM(ctx, task.VMID)
	if err != nil {
		return err
	}
	if a.output == "table" && wait {
		_, err := fmt.Fprintf(a.out, "VM %s is running: id %s, image %s, %d vcpus, %d MiB, created in %.2f s\n",
			vm.Name, vm.ID, vm.Image, vm.VCPUs, vm.MemoryMiB, time.Since(began).Seconds())
		return err
	}
	return printOne(a, vmTable, vm)
}

func (a *app) vmListCommand() *cobra.Command {
	var f client.VMFilter
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List VMs, newest first", Args: cobra.NoArgs,
		Example: `  aether-cli vm list
  aether-cli vm list --state running --label team=ci
  aether-cli vm list --state deleted -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			vms, err := a.client.ListVMs(cmd.Context(), f)
			if err != nil {
				return err
			}
			return printList(a, vmTable, vms)
		},
	}
	cmd.Flags().StringArrayVar(&f.States, "state", nil, "only VMs in this state; may be repeated")
	cmd.Flags().StringArrayVarP(&f.Labels, "label", "l", nil, "only VMs with this label, key=value; may be repeated")
	cmd.Flags().StringVar(&f.Name, "name", "", "only VMs with this in their name")
	complete(cmd, "state", completeVMState)
	return cmd
}

func (a *app) vmGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get VM…", Short: "Show VMs", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs,
		Example: `  aether-cli vm get my-vm
  aether-cli vm get my-vm -o yaml
  VM_ID=$(aether-cli vm get my-vm -o id)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return printEach(a, vmTable, args, func(vm string) (types.VM, error) { return a.client.GetVM(cmd.Context(), vm) })
		},
	}
}

func (a *app) verbCommand(verb, short string, aliases ...string) *cobra.Command {
	var wait, noWait bool
	cmd := &cobra.Command{
		Use: verb + " VM…", Aliases: aliases, Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs,
		Example: "  aether-cli vm " + verb + " my-vm\n  aether-cli vm " + verb + " one two three",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd.Context(), args, verb, wait && !noWait)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until it is done")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "print the task and do not wait, as --wait=false")
	return cmd
}

// act has a verb done to VMs, to all at once, and prints which.
func (a *app) act(ctx context.Context, vms []string, verb string, wait bool) error {
	hold := firstWait(wait && len(vms) == 1)
	tasks := make([]types.Task, len(vms))
	errs := make([]error, len(vms))
	for i, vm := range vms {
		if verb == "delete" {
			tasks[i], errs[i] = a.client.DeleteVM(ctx, vm, hold)
		} else {
			tasks[i], errs[i] = a.client.Act(ctx, vm, verb, hold)
		}
	}
	var done []types.Task
	for i, vm := range vms {
		if errs[i] == nil && wait {
			tasks[i], errs[i] = a.finish(ctx, tasks[i])
		}
		if errs[i] != nil {
			continue
		}
		done = append(done, tasks[i])
		if a.output == "table" {
			if _, err := fmt.Fprintf(a.out, "%s: %s %s\n", vm, verb, tasks[i].State); err != nil {
				return err
			}
		}
	}
	if a.output != "table" {
		errs = append(errs, printSome(a, taskTable, done, len(vms)))
	}
	return errors.Join(errs...)
}
