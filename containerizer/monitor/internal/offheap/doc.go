// Package offheap hands out memory beside the Go heap. berth-monitor keeps its
// buffers there: they cost nothing until touched, and what an idle monitor does
// not need goes back to the kernel at once, without a garbage collection.
package offheap
