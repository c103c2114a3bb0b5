package oci

import (
	"fmt"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Login keeps user and password of a registry where docker login does, in the credential helper that the configuration
// names or in the configuration itself. It returns where.
func Login(registry, user, password string) (string, error) {
	r, err := name.NewRegistry(registry)
	if err != nil {
		return "", fmt.Errorf("registry %q: %w", registry, err)
	}
	server := r.Name()
	if server == name.DefaultRegistry {
		server = authn.DefaultAuthKey
	}
	c, err := config.Load("")
	if err != nil {
		return "", fmt.Errorf("reading docker's configuration: %w", err)
	}
	err = c.GetCredentialsStore(server).Store(types.AuthConfig{ServerAddress: server, Username: user, Password: password})
	if err == nil {
		err = c.Save()
	}
	if err != nil {
		return "", fmt.Errorf("keeping the password for %s: %w", server, err)
	}
	return c.Filename, nil
}
