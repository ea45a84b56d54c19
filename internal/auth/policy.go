package auth

import (
	"strings"

	"github.com/dreamood/dreamood/internal/fault"
)

// What a call does, by the first word of its method. A method with another word is for admins.
var (
	reads = []string{"Get", "List", "Watch", "Describe", "Stream", "Download", "Wait"}
	works = []string{"Train", "Sample", "Render", "Reconstruct", "Embed", "Score", "Evaluate", "Submit",
		"Cancel", "Pause", "Resume", "Retry", "Redrive", "Delete", "Promote"}
)

// computes are methods that read by their name, and let the server compute on what the caller sends.
var computes = map[string]bool{"/dreamood.trainer.v1.TrainerService/StreamScores": true}

// Open reports whether a method is for everybody, known or not: health, for those who start and stop processes.
func Open(method string) bool { return strings.HasPrefix(method, "/grpc.health.v1.Health/") }

// Allow returns PermissionDenied when the role of an identity does not reach to a method, "/package.Service/Method".
// Methods that name a resource also look at its owner: Sees, Steers.
func Allow(i Identity, method string) error {
	if i.Role == Admin || Open(method) || strings.HasPrefix(method, "/grpc.reflection.") {
		return nil
	}
	name := method[strings.LastIndexByte(method, '/')+1:]
	switch {
	case hasVerb(name, reads) && !computes[method]:
		return nil
	case (hasVerb(name, works) || computes[method]) && i.Role != Viewer:
		return nil
	}
	return fault.New(fault.PermissionDenied, "%s (role %s) may not call %s", i.Name, i.Role, name)
}

// hasVerb reports whether a method begins with one of the words.
func hasVerb(method string, verbs []string) bool {
	for _, verb := range verbs {
		if rest, ok := strings.CutPrefix(method, verb); ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' {
			return true
		}
	}
	return false
}
