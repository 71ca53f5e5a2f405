// Package oomscore sets how willingly the kernel's OOM killer takes a container's
// process (proc(5), /proc/PID/oom_score_adj).
//
// Settings: Options.Clamp. Of Spec.Process: OOMScoreAdj; without it berth's own value is
// inherited. Lowering the value below berth's takes CAP_SYS_RESOURCE. Nothing is
// kept on the node.
package oomscore
