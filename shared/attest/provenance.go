package attest

// Build is the predicate of SLSA provenance, version 1: how an artifact came to be. Of
// https://slsa.dev/spec/v1.0/provenance it has what can be said without the time and machine of the build, so that
// the same build gives the same statement.
type Build struct {
	Definition Definition `json:"buildDefinition"`
	Details    Details    `json:"runDetails"`
}

// Definition is what was asked for, and what it was made of.
type Definition struct {
	Type         string     `json:"buildType"` // a URI: what the parameters mean
	Parameters   any        `json:"externalParameters"`
	Dependencies []Material `json:"resolvedDependencies,omitempty"`
}

// Material is an artifact that the build took.
type Material struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"` // a package URL
	Digest      map[string]string `json:"digest,omitempty"`
	Location    string            `json:"downloadLocation,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Details say who built.
type Details struct {
	Builder Builder `json:"builder"`
}

// Builder is whom one trusts when one trusts the statement.
type Builder struct {
	ID string `json:"id"` // a URI
}
