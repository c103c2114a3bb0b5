// Package compat writes plans in the form that another melange's compile prints, so that the two can be laid side by side
// by any tool that knows JSON.
//
// [Of] is a pure function of the plan and decides nothing. What is in a recipe and not in a plan cannot be in its result:
// vars, data, options and update, steps whose condition does not hold and the text of those that do. What the other's
// language has no word for is there as the use of a pipeline without a body: sources, portable steps, checks.
package compat

import "time"

// Configuration is a compiled recipe. Its fields stand in the order in which they are printed.
type Configuration struct {
	Package      Package      `json:"package"`
	Environment  Environment  `json:"environment"`
	Capabilities Capabilities `json:"capabilities"`
	Pipeline     []Step       `json:"pipeline,omitempty"`
	Subpackages  []Subpackage `json:"subpackages,omitempty"`
	Test         *Test        `json:"test,omitempty"`
}

// Package is the origin.
type Package struct {
	Name          string            `json:"name"`
	Version       string            `json:"version"`
	Epoch         uint64            `json:"epoch"`
	Description   string            `json:"description,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	URL           string            `json:"url,omitempty"`
	Commit        string            `json:"commit,omitempty"`
	Copyright     []Copyright       `json:"copyright,omitempty"`
	Dependencies  Dependencies      `json:"dependencies"`
	Options       *Options          `json:"options,omitempty"`
	Scriptlets    *Scriptlets       `json:"scriptlets,omitempty"`
	Checks        Checks            `json:"checks"`
	CPE           CPE               `json:"cpe"`
	Setcap        []Setcap          `json:"setcap,omitempty"`
	Timeout       time.Duration     `json:"timeout,omitempty"`
	Resources     Resources         `json:"resources"`
	TestResources *Resources        `json:"test-resources,omitempty"`
}

// Subpackage is a further package. If is only found in what another printed.
type Subpackage struct {
	If           string            `json:"if,omitempty"`
	Name         string            `json:"name"`
	Pipeline     []Step            `json:"pipeline,omitempty"`
	Dependencies Dependencies      `json:"dependencies"`
	Options      *Options          `json:"options,omitempty"`
	Scriptlets   *Scriptlets       `json:"scriptlets,omitempty"`
	Description  string            `json:"description,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	URL          string            `json:"url,omitempty"`
	Commit       string            `json:"commit,omitempty"`
	Checks       Checks            `json:"checks"`
	Test         *Test             `json:"test,omitempty"`
	Setcap       []Setcap          `json:"setcap,omitempty"`
}

// Step is a node of a pipeline: Runs comes before the steps of Pipeline. If is only found in what another printed.
type Step struct {
	If          string            `json:"if,omitempty"`
	Name        string            `json:"name,omitempty"`
	Uses        string            `json:"uses,omitempty"`
	With        map[string]string `json:"with,omitempty"`
	Runs        string            `json:"runs,omitempty"`
	Pipeline    []Step            `json:"pipeline,omitempty"`
	WorkDir     string            `json:"working-directory,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
}

type Test struct {
	Environment Environment `json:"environment"`
	Pipeline    []Step      `json:"pipeline"`
}

type Environment struct {
	Contents    Contents          `json:"contents"`
	Entrypoint  struct{}          `json:"entrypoint"`
	Accounts    Accounts          `json:"accounts"`
	Environment map[string]string `json:"environment,omitempty"`
}

type Contents struct {
	BuildRepositories []string `json:"build_repositories,omitempty"`
	Repositories      []string `json:"repositories,omitempty"`
	Keyring           []string `json:"keyring,omitempty"`
	Packages          []string `json:"packages,omitempty"`
}

type Accounts struct {
	RunAs  string  `json:"run-as,omitempty"`
	Users  []User  `json:"users,omitempty"`
	Groups []Group `json:"groups,omitempty"`
}

type User struct {
	Name  string `json:"username,omitempty"`
	UID   uint32 `json:"uid,omitempty"`
	GID   uint32 `json:"gid,omitempty"`
	Shell string `json:"shell,omitempty"`
	Home  string `json:"homedir,omitempty"`
}

type Group struct {
	Name    string   `json:"groupname,omitempty"`
	GID     uint32   `json:"gid,omitempty"`
	Members []string `json:"members,omitempty"`
}

type Capabilities struct {
	Add  []string `json:"add,omitempty"`
	Drop []string `json:"drop,omitempty"`
}

type Copyright struct {
	Paths             []string `json:"paths,omitempty"`
	Attestation       string   `json:"attestation,omitempty"`
	License           string   `json:"license"`
	LicensePath       string   `json:"license-path,omitempty"`
	DetectionOverride string   `json:"detection-override,omitempty"`
}

type Dependencies struct {
	Runtime          []string `json:"runtime,omitempty"`
	Provides         []string `json:"provides,omitempty"`
	Replaces         []string `json:"replaces,omitempty"`
	ProviderPriority string   `json:"provider-priority,omitempty"`
	ReplacesPriority string   `json:"replaces-priority,omitempty"`
}

type Options struct {
	NoProvides           bool `json:"no-provides,omitempty"`
	NoDepends            bool `json:"no-depends,omitempty"`
	NoCommands           bool `json:"no-commands,omitempty"`
	NoVersionedShlibDeps bool `json:"no-versioned-shlib-deps,omitempty"`
}

type Scriptlets struct {
	Trigger       Trigger `json:"trigger"`
	PreInstall    string  `json:"pre-install,omitempty"`
	PostInstall   string  `json:"post-install,omitempty"`
	PreDeinstall  string  `json:"pre-deinstall,omitempty"`
	PostDeinstall string  `json:"post-deinstall,omitempty"`
	PreUpgrade    string  `json:"pre-upgrade,omitempty"`
	PostUpgrade   string  `json:"post-upgrade,omitempty"`
}

type Trigger struct {
	Script string   `json:"script,omitempty"`
	Paths  []string `json:"paths,omitempty"`
}

type Checks struct {
	Disabled []string `json:"disabled,omitempty"`
}

type CPE struct {
	Part      string `json:"part,omitempty"`
	Vendor    string `json:"vendor,omitempty"`
	Product   string `json:"product,omitempty"`
	Edition   string `json:"edition,omitempty"`
	Language  string `json:"language,omitempty"`
	SWEdition string `json:"sw_edition,omitempty"`
	TargetSW  string `json:"target_sw,omitempty"`
	TargetHW  string `json:"target_hw,omitempty"`
	Other     string `json:"other,omitempty"`
}

// Setcap gives capabilities to a file: Add has flags such as "+ep" by the names of capabilities.
type Setcap struct {
	Path   string            `json:"path,omitempty"`
	Add    map[string]string `json:"add,omitempty"`
	Reason string            `json:"reason,omitempty"`
}

type Resources struct {
	CPU      string `json:"cpu,omitempty"`
	CPUModel string `json:"cpumodel,omitempty"`
	Memory   string `json:"memory,omitempty"`
	Disk     string `json:"disk,omitempty"`
}
