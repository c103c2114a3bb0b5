package recipe

import "distro.internal/shared/document"

// Update tells the bots that watch upstream for releases where to look. Nothing that is built depends on it.
type Update struct {
	Enabled              bool
	Manual               bool
	RequireSequential    bool              `yaml:"require-sequential"`
	Shared               bool              `yaml:"shared"`
	VersionSeparator     document.String   `yaml:"version-separator"`
	IgnoreRegexPatterns  []document.String `yaml:"ignore-regex-patterns"`
	ExcludeReason        document.String   `yaml:"exclude-reason"`
	EnablePrereleaseTags bool              `yaml:"enable-prerelease-tags"`
	ReleaseMonitor       *ReleaseMonitor   `yaml:"release-monitor"`
	GitHub               *GitHubMonitor
	Git                  *TagFilter
	OCI                  *OCIMonitor
	VersionData          *VersionData       `yaml:"version_data"`
	VersionTransform     []VersionTransform `yaml:"version-transform"`
	Schedule             *Schedule
}

type ReleaseMonitor struct {
	Identifier            uint64
	StripPrefix           document.String `yaml:"strip-prefix"`
	StripSuffix           document.String `yaml:"strip-suffix"`
	VersionFilterContains document.String `yaml:"version-filter-contains"`
	VersionFilterPrefix   document.String `yaml:"version-filter-prefix"`
}

type GitHubMonitor struct {
	Identifier document.String
	UseTag     bool            `yaml:"use-tag"`
	OldFilter  document.String `yaml:"tag-filter"`
	TagFilter  `yaml:",inline"`
}

type OCIMonitor struct {
	Identifier document.String
	TagFilter  `yaml:",inline"`
}

// TagFilter chooses among a repository's tags and cuts the version out of them.
type TagFilter struct {
	StripPrefix       document.String `yaml:"strip-prefix"`
	StripSuffix       document.String `yaml:"strip-suffix"`
	TagFilterPrefix   document.String `yaml:"tag-filter-prefix"`
	TagFilterContains document.String `yaml:"tag-filter-contains"`
}

type VersionData struct {
	VersionFormat document.String `yaml:"version_format"`
	Sources       []struct {
		Name         document.String
		Stream       document.String
		Ignore       []document.String
		CommitSource document.String `yaml:"commit_source"`
		UseRelease   bool            `yaml:"use_release"`
	}
}

type VersionTransform struct {
	Match   document.String
	Replace document.String
}

type Schedule struct {
	Period document.String
	Reason document.String
}
