package Hello::World;
use strict;
our $VERSION = '3.01';
require XSLoader;
XSLoader::load('Hello::World', $VERSION);
1;

__END__

=head1 NAME

Hello::World - says hello

=cut
