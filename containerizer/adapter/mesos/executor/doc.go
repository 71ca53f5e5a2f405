// Package executor is a custom executor for stock Mesos agents: it runs the tasks and
// task groups that an agent gives it as containers of berth.
//
// One executor has one tree. Its root is a pod sandbox that stands for the executor: it
// is in the host's network, and in the executor's own control group where an agent made
// one, so that what the agent measures and kills includes the tasks. Every task is a child
// of it, named by a number of its own. How Mesos's words become a description is package
// translate's.
//
// Two connections lead to the agent. On one it sends events, on the other our calls go,
// one at a time, in order. What the agent has not acknowledged is kept and told again when
// the subscription is made anew: an update stays what it was, by its UUID, and a task has
// one terminal update.
//
//	task:  STARTING ──> RUNNING ──> KILLING ──> FINISHED, FAILED, KILLED
//	           └────────────┴────────────────────────^      (KILLING where the framework knows it)
//
// When the agent is gone, tasks go on as long as the framework's checkpointing allows
// (MESOS_CHECKPOINT, MESOS_RECOVERY_TIMEOUT), and end then, as by SHUTDOWN. When all have
// ended and all of that is acknowledged the executor ends. An executor that is killed leaves
// its tree: with the agent's control group its processes die, and the next executor of the
// node removes what is left (see [Executor.Run]).
package executor
