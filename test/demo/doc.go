// Command demo is the program of the demonstration image: started in a container, it
// tells what it can see of its isolation, from the kernel's own files. `make demo`
// builds it, makes an image of it alone and runs that.
//
// It is static and needs nothing but /proc, so it shows a container of any runtime.
package main
