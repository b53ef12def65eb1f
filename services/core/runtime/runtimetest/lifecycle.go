package runtimetest

import (
	"context"
	"net"
	"time"

	"github.com/aetherium/aetherium/libs/types"
	"github.com/aetherium/aetherium/services/core/runtime"
)

type netConn = net.Conn

func (s *suite) state(id string) runtime.State {
	s.Helper()
	list, err := s.rt.List(s.Context())
	s.ok(err)
	for _, i := range list {
		if i.ID == id {
			return i.State
		}
	}
	return ""
}

func lifecycle(s *suite) {
	m := s.create()
	m.equal(s.state(m.ID), runtime.StateRunning)
	m.equal(m.must("echo hello"), "hello")
	m.equal(m.must("hostname"), m.Hostname)
	st, err := s.rt.Stats(s.Context(), m.ID)
	s.ok(err)
	if st.MemoryBytes == 0 || st.Processes == 0 || st.DiskBytes == 0 {
		s.Fatalf("stats say %+v", st)
	}
	ended := make(chan runtime.Exit, 1)
	go func() {
		exit, err := s.rt.Wait(context.Background(), m.ID)
		if err != nil {
			s.Error(err)
		}
		ended <- exit
	}()
	s.ok(s.rt.Delete(s.Context(), m.ID))
	if exit := <-ended; exit.Kind != "" {
		s.Fatalf("a VM that was deleted ended by %+v", exit)
	}
	s.equalState(m.ID, "")
	_, err = s.rt.Dial(s.Context(), m.ID)
	s.kind(err, types.KindNotFound)
}

func (s *suite) equalState(id string, want runtime.State) {
	s.Helper()
	if got := s.state(id); got != want {
		s.Fatalf("state is %q, want %q", got, want)
	}
}

func idempotence(s *suite) {
	m := s.create()
	again, err := s.rt.Create(s.Context(), m.Spec)
	s.ok(err)
	m.equal(again, m.inst)
	m.must("true")
	s.ok(s.rt.Delete(s.Context(), m.ID))
	s.ok(s.rt.Delete(s.Context(), m.ID))
	_, err = s.rt.Start(s.Context(), m.ID)
	s.kind(err, types.KindNotFound)
	s.kind(s.rt.Stop(s.Context(), m.ID), types.KindNotFound)
	_, err = s.rt.Stats(s.Context(), m.ID)
	s.kind(err, types.KindNotFound)
	_, err = s.rt.Create(s.Context(), runtime.Spec{ID: "../../etc"})
	s.kind(err, types.KindInvalid)
}

func restart(s *suite) {
	m := s.create()
	if !s.can(runtime.CapRestart) {
		s.kind(s.rt.Stop(s.Context(), m.ID), types.KindUnsupported)
		return
	}
	m.must("echo kept > /root/file && sync")
	s.ok(m.guest.Shutdown(s.Context(), time.Second, false))
	s.ok(s.rt.Stop(s.Context(), m.ID))
	s.ok(s.rt.Stop(s.Context(), m.ID))
	s.equalState(m.ID, runtime.StateStopped)
	inst, err := s.rt.Start(s.Context(), m.ID)
	s.ok(err)
	m.equal(inst.IP, m.inst.IP)
	m.connect()
	m.equal(m.must("cat /root/file"), "kept")
	_, err = s.rt.Start(s.Context(), m.ID)
	s.ok(err)
}

func pause(s *suite) {
	m := s.create()
	if !s.can(runtime.CapPause) {
		s.kind(s.rt.Pause(s.Context(), m.ID), types.KindUnsupported)
		return
	}
	s.ok(s.rt.Pause(s.Context(), m.ID))
	s.ok(s.rt.Pause(s.Context(), m.ID))
	s.equalState(m.ID, runtime.StatePaused)
	s.ok(s.rt.Resume(s.Context(), m.ID))
	s.ok(s.rt.Resume(s.Context(), m.ID))
	s.equalState(m.ID, runtime.StateRunning)
	m.must("true")
}

// adoption is what a worker does that was killed and starts again.
func adoption(s *suite) {
	m := s.create()
	s.rt = s.New()
	s.equalState(m.ID, runtime.StateRunning)
	m.connect()
	m.equal(m.must("echo adopted"), "adopted")
	ended := make(chan error, 1)
	go func() {
		_, err := s.rt.Wait(context.Background(), m.ID)
		ended <- err
	}()
	s.ok(s.rt.Delete(s.Context(), m.ID))
	s.ok(<-ended)
	s.equalState(m.ID, "")
}

func unexpectedEnd(s *suite) {
	m := s.create()
	// The first process of the VM is its agent.
	_, err := m.guest.Start(s.Context(), "kill", types.ExecSpec{Command: "sh", Args: []string{"-c", "kill -9 1"}})
	s.ok(err)
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
	defer cancel()
	exit, err := s.rt.Wait(ctx, m.ID)
	if err == nil && (exit.Kind != types.KindInternal || exit.Reason == "") {
		s.Fatalf("a VM that died ended by %+v", exit)
	}
	if err != nil { // a guest's kernel protects its first process
		m.must("true")
	}
}
