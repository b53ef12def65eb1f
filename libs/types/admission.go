package types

import "fmt"

// admission says in which states a VM admits a type of task. What it does not
// list is refused.
var admission = map[TaskType][]VMState{
	TaskVMStart:   {VMStopped, VMRunning},
	TaskVMStop:    {VMRunning, VMPaused, VMStopped},
	TaskVMPause:   {VMRunning, VMPaused},
	TaskVMResume:  {VMPaused, VMRunning},
	TaskVMExecute: {VMPending, VMCreating, VMRunning}, // it waits until the VM runs
	TaskVMDelete:  VMStates(),                         // deleting is always possible
}

// remedies says what to do about a VM that refuses work in a state.
var remedies = map[VMState]string{
	VMPending:  "wait until the VM is running",
	VMCreating: "wait until the VM is running",
	VMRunning:  "the VM is running",
	VMStopped:  "start the VM first",
	VMPaused:   "resume the VM first",
	VMDeleting: "create another VM",
	VMDeleted:  "create another VM",
	VMFailed:   "delete the VM and create it anew",
	VMLost:     "delete the VM and create it anew",
}

// Admit says whether a VM in its state takes a type of task: nil, or a
// KindConflict that names the state and the remedy.
func Admit(vm VM, t TaskType) error {
	for _, s := range admission[t] {
		if s == vm.State {
			return nil
		}
	}
	why := ""
	if vm.Reason != "" {
		why = fmt.Sprintf(" (%s)", vm.Reason)
	}
	return Errorf(KindConflict, "VM %s is %s%s and does not take %s", vm.Name, vm.State, why, t).WithRemedy("%s", remedies[vm.State])
}
