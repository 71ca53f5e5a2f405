// Package agent serves the operator API v1 of a Mesos agent over the contracts of
// package containerizer: /api/v1, one call in, one response or a stream out.
//
// It translates and holds no life cycle of its own. A standalone container is a root of
// the tree, a nested one a child; a debug session is a child that joins everything of
// its parent. Calls of frameworks, tasks and executors answer truly that there are none.
// What comes in is refused whole (400) before anything of it is done, and a container
// that cannot be launched leaves nothing but its sandbox.
//
// Sandboxes are laid out as Mesos does, below [Options.WorkDir]:
//
//	containers/ID                     a standalone container: stdout, stderr, its files
//	containers/ID/containers/CHILD    a container nested in it
//
// They outlive their containers until REMOVE_CONTAINER. What is in them is written by
// containers: it is reached by descriptor only, and never followed outwards.
//
// Who may do what: [Authenticator] says who calls (basic, bearer), [ACLs] what they may,
// by the names that Mesos has for its actions. Without both everybody may do all.
//
// What containers are in the vocabulary is package translate's, which the executor and the
// external containerizer share.
package agent
