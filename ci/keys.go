package main

import (
	"maps"
	"sync"

	"distro.internal/shared/cas"
)

// keys remembers under which keys the nodes of a run were looked for.
type keys struct {
	mu   sync.Mutex
	node map[string]map[string]string
}

// set records the keys of a node by kind.
func (k *keys) set(node string, of []*cas.Key) {
	digests := map[string]string{}
	for _, key := range of {
		digests[key.Kind()] = key.Digest().String()
	}
	k.record(node, digests)
}

// record keeps the digests of a node's keys by name.
func (k *keys) record(node string, digests map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.node == nil {
		k.node = map[string]map[string]string{}
	}
	k.node[node] = digests
}

func (k *keys) of(node string) map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.node[node])
}
