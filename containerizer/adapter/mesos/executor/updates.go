package executor

import (
	"bytes"
	"crypto/rand"
	"slices"

	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	executorv1 "github.com/berth-dev/berth/proto/mesos/v1/executor"
)

// book is what the agent has not acknowledged: updates, and tasks of which it has not
// acknowledged any. The zero value is empty. It is guarded by who has it.
type book struct {
	updates []*entry
	tasks   []*mesosv1.TaskInfo
}

// entry is an update. sent says that it is told in this subscription, or with it.
type entry struct {
	status *mesosv1.TaskStatus
	sent   bool
}

func (b *book) addTask(t *mesosv1.TaskInfo) { b.tasks = append(b.tasks, t) }

func (b *book) addUpdate(s *mesosv1.TaskStatus) { b.updates = append(b.updates, &entry{status: s}) }

// acknowledge forgets an update, and says whether it was there.
func (b *book) acknowledge(task string, uuid []byte) bool {
	n := len(b.updates)
	b.updates = slices.DeleteFunc(b.updates, func(e *entry) bool {
		return e.status.GetTaskId().GetValue() == task && bytes.Equal(e.status.GetUuid(), uuid)
	})
	if len(b.updates) == n {
		return false
	}
	b.tasks = slices.DeleteFunc(b.tasks, func(t *mesosv1.TaskInfo) bool { return t.GetTaskId().GetValue() == task })
	return true
}

// subscribe is all that is told anew with a subscription.
func (b *book) subscribe() *executorv1.Call_Subscribe {
	s := &executorv1.Call_Subscribe{UnacknowledgedTasks: slices.Clone(b.tasks)}
	for _, e := range b.updates {
		e.sent = true
		s.UnacknowledgedUpdates = append(s.UnacknowledgedUpdates, &executorv1.Call_Update{Status: e.status})
	}
	return s
}

// next is the first update that was not told; nil is none.
func (b *book) next() *entry {
	for _, e := range b.updates {
		if !e.sent {
			return e
		}
	}
	return nil
}

// newUUID is a random one (RFC 9562, version 4).
func newUUID() []byte {
	u := make([]byte, 16)
	_, _ = rand.Read(u) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}
