// Package translate turns what Mesos says of a container (CommandInfo, ContainerInfo,
// resources) into the vocabulary, for all that speaks Mesos here: the agent's API, the
// executor and the external containerizer.
//
// It launches nothing. A [Plan] is a description, the sandbox that goes with it, and what
// has to be fetched into that. What cannot be carried is refused as a whole, by an error
// of class ErrInvalid or ErrUnsupported that names it: nothing is left out silently.
//
// Sandboxes are laid out as Mesos does: that of a container is below its parent's, at
// containers/ID. What is in them is written by containers, and reached by descriptor only.
package translate
