Gem::Specification.new do |s|
  s.name = "hello"
  s.version = "1.1"
  s.summary = "Says hello"
  s.authors = ["nobody"]
  s.files = ["lib/hello.rb", "bin/hello"]
  s.bindir = "bin"
  s.executables = ["hello"]
  s.signing_key = "none.pem" if $0 =~ /gem\z/
end
