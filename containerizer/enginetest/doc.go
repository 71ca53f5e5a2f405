// Package enginetest is the conformance suite of [containerizer.Engine]: a test
// describes how to make one in a [Config] and calls [Run]. The suite knows the
// interface only, so that it judges the embedded engine and a remote one alike.
//
// It also has the collaborators that let an engine run without the rest of berth:
// [Launcher], whose containers are plain processes of the host with a monitor
// that outlives the engine, [Isolator], [Freezer] and [Provisioner]. A test
// program that uses Launcher calls [Main] first thing in TestMain.
package enginetest
