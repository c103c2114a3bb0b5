package recipe

import "distro.internal/shared/document"

// Steps have no network, unless somebody says so: the step, with "options: [network]" on it or around it; the recipe,
// with "network: true" in its environment, for all steps; or whoever plans. What was decided stands in each step, and
// is a part of the key of what is built. Where the network is, package managers fetch for themselves, and no lock file
// is read for them.

// Network is whose steps may talk to the network, whatever recipes say.
type Network string

const (
	NetworkAsked  Network = ""       // of those that ask for it
	NetworkNever  Network = "never"  // none: to ask for it is a mistake
	NetworkAlways Network = "always" // all
)

// Networks are all there are, as people write them.
var Networks = []string{"asked", string(NetworkNever), string(NetworkAlways)}

// ParseNetwork reads one of Networks.
func ParseNetwork(s string) (n Network, ok bool) {
	switch n := Network(s); {
	case s == "asked":
		return NetworkAsked, true
	case n == NetworkNever || n == NetworkAlways:
		return n, true
	}
	return "", false
}

const optionNetwork = "network"

// online says whether all steps of an environment may talk to the network.
func (p *planner) online(e EnvironmentSection) bool {
	switch e.Network.Value {
	case "true":
		p.mayAsk(e.Network.Pos)
		return true
	case "", "false":
	default:
		p.errs.Add(e.Network.Pos, "", "network: want true or false, found %q", e.Network.Value)
	}
	return p.options.Network == NetworkAlways
}

// permits says whether the options of a step let it talk to the network.
func (p *planner) permits(options []document.String, f frame) bool {
	for _, o := range options {
		if o.Value != optionNetwork {
			continue
		}
		p.mayAsk(f.pos)
		return true
	}
	return false
}

func (p *planner) mayAsk(pos document.Pos) {
	if p.options.Network == NetworkNever {
		p.errs.Add(pos, "", "the network is asked for here, and the recipe may not have it")
	}
}
