package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aetherium/aetherium/libs/client"
	"github.com/aetherium/aetherium/libs/types"
)

// complete registers a flag's completion.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// oneOf completes a flag that takes one of some names.
func oneOf[S ~string](names []S) cobra.CompletionFunc {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return cobra.FixedCompletions(texts, cobra.ShellCompDirectiveNoFileComp)
}

// completeVM completes the name of one VM, the command's first argument.
func (a *app) completeVM(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.vmNames(cmd, nil), cobra.ShellCompDirectiveNoFileComp
}

// completeVMs completes the names of VMs, each once.
func (a *app) completeVMs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.vmNames(cmd, args), cobra.ShellCompDirectiveNoFileComp
}

// vmNames asks the server, for a moment only: someone has pressed a key.
func (a *app) vmNames(cmd *cobra.Command, but []string) []string {
	const patience = time.Second
	c, err := a.dial()
	if err != nil {
		return nil
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	vms, err := c.ListVMs(ctx, client.VMFilter{})
	if err != nil {
		return nil
	}
	var names []string
	for _, v := range vms {
		if !slices.Contains(but, v.Name) {
			names = append(names, v.Name+"\t"+string(v.State))
		}
	}
	return names
}

// completeCopy completes "VM:"; what comes after, and this machine's files, are
// the shell's.
func (a *app) completeCopy(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const ends = 2
	if len(args) == ends {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, v := range a.vmNames(cmd, nil) {
		name, _, _ := strings.Cut(v, "\t")
		names = append(names, name+":")
	}
	return names, cobra.ShellCompDirectiveNoSpace
}

func (a *app) completeContext(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, err := a.loadConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(c.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

// completeTask completes the ids of the latest tasks.
func (a *app) completeTask(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	const patience, latest = time.Second, 50
	c, err := a.dial()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	tasks, err := c.ListTasks(ctx, client.TaskFilter{Limit: latest})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ids := make([]string, len(tasks))
	for i, t := range tasks {
		ids[i] = t.ID + "\t" + string(t.Type) + " " + string(t.State)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

var (
	completeVMState   = oneOf(types.VMStates())
	completeTaskState = oneOf(types.TaskStates())
	completeTaskType  = oneOf(types.TaskTypes())
)
