// Package archive reads images from directories in OCI image layout, from tar
// archives of such, and from archives as "docker save" makes them.
//
// An archive is indexed once by its headers; members are then read by their
// offsets. A compressed archive is expanded into an unnamed temporary file first.
// Names inside an archive never become paths of this machine, and a layout
// directory is entered by descriptor, so that a link in it leads nowhere else.
package archive
