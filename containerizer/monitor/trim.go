package monitor

import (
	"runtime"

	"github.com/berth-dev/berth/containerizer/monitor/internal/offheap"
)

// garbageLimit is how many objects may be spent before they are collected.
const garbageLimit = 256

// trim gives back what an idle monitor does not need. It runs once after things
// have become quiet; then the monitor sleeps until something happens.
func (m *monitor) trim() {
	m.dirty = false
	for _, b := range [...][]byte{m.frame, m.control, m.reply, m.chunk} {
		offheap.Discard(b)
	}
	m.log.Discard()
	for _, el := range m.elements {
		if el.log != nil {
			el.log.Trim()
		}
	}
	m.collect(garbageLimit)
}

// collect collects garbage if there is that much. The collector is off otherwise
// (wire.EnvNoGC): a heap of some dozen objects needs none.
func (m *monitor) collect(limit int) {
	if m.spent >= limit {
		m.spent = 0
		runtime.GC()
	}
}
