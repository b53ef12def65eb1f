package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

func (a *app) vmCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "vm", Short: "Create VMs and manage them"}
	cmd.AddCommand(a.createCommand(), a.vmListCommand(), a.vmGetCommand())
	for verb, short := range map[string]string{
		"start": "Start stopped VMs", "stop": "Stop VMs and keep their disks", "pause": "Freeze VMs", "resume": "Let paused VMs go on",
		"delete": "Delete VMs and all they hold",
	} {
		cmd.AddCommand(a.verbCommand(verb, short))
	}
	return cmd
}

func (a *app) createCommand() *cobra.Command {
	var spec types.VMSpec
	var env, labels, placement []string
	var noWait bool
	var network string
	cmd := &cobra.Command{
		Use: "create [NAME]", Short: "Create a VM and wait until it runs", Args: cobra.MaximumNArgs(1),
		Example: "  aether-cli vm create build --image debian:12 --vcpus 2 --memory 2048\n  VM=$(aether-cli vm create -o id)",
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
			spec.Network = types.NetworkMode(network)
			return a.create(cmd.Context(), spec, !noWait)
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Image, "image", "", "host, an OCI reference, or oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR on the worker")
	f.StringVar(&spec.Runtime, "runtime", "", "runtime to use; the platform chooses if empty")
	f.IntVar(&spec.VCPUs, "vcpus", 0, "virtual CPUs")
	f.IntVar(&spec.MemoryMiB, "memory", 0, "memory in MiB")
	f.IntVar(&spec.DiskMiB, "disk", 0, "size of the writable disk in MiB")
	f.StringVar(&network, "network", "", "nat or none")
	f.StringArrayVarP(&env, "env", "e", nil, "NAME=value, for every command in the VM")
	f.StringArrayVarP(&labels, "label", "l", nil, "key=value")
	f.StringArrayVar(&placement, "placement", nil, "key=value that the worker must have")
	f.BoolVar(&noWait, "no-wait", false, "do not wait until it runs")
	return cmd
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
			return nil, usageError{fmt.Errorf("--%s %q is not of the form key=value", flag, kv)}
		}
		m[k] = v
	}
	return m, nil
}

// create creates a VM, waits until it runs if asked to, and prints it.
func (a *app) create(ctx context.Context, spec types.VMSpec, wait bool) error {
	began := time.Now()
	first := waitFirst
	if !wait {
		first = 0
	}
	task, err := a.client.CreateVM(ctx, spec, first)
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
		Use: "list", Aliases: []string{"ls"}, Short: "List VMs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			vms, err := a.client.ListVMs(cmd.Context(), f)
			if err != nil {
				return err
			}
			return printList(a, vmTable, vms)
		},
	}
	cmd.Flags().StringArrayVar(&f.States, "state", nil, "only VMs in this state")
	cmd.Flags().StringArrayVarP(&f.Labels, "label", "l", nil, "only VMs with this label, key=value")
	cmd.Flags().StringVar(&f.Name, "name", "", "only VMs with this in their name")
	return cmd
}

func (a *app) vmGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get VM", Short: "Show a VM", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			vm, err := a.client.GetVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printOne(a, vmTable, vm)
		},
	}
}

func (a *app) verbCommand(verb, short string) *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{
		Use: verb + " VM…", Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, vm := range args {
				if err := a.act(cmd.Context(), vm, verb, !noWait); err != nil {
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
	if verb == "delete" {
		cmd.Aliases = []string{"rm"}
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	return cmd
}

// act has a verb done to a VM, and prints which.
func (a *app) act(ctx context.Context, vm, verb string, wait bool) error {
	first := waitFirst
	if !wait {
		first = 0
	}
	var task types.Task
	var err error
	if verb == "delete" {
		task, err = a.client.DeleteVM(ctx, vm, first)
	} else {
		task, err = a.client.Act(ctx, vm, verb, first)
	}
	if err == nil && wait {
		task, err = a.finish(ctx, task)
	}
	if err != nil {
		return err
	}
	if a.output != "table" {
		return printOne(a, taskTable, task)
	}
	_, err = fmt.Fprintf(a.out, "%s: %s %s\n", vm, verb, task.State)
	return err
}

// completeVM completes the names of VMs.
func (a *app) completeVM(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	const patience = time.Second
	settings, err := a.settings(os.Getenv)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := client.New(settings.URL, settings.Token)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	vms, err := c.ListVMs(ctx, client.VMFilter{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, len(vms))
	for i, v := range vms {
		names[i] = v.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
