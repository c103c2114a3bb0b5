#!/usr/bin/perl
# Writes one PEM file into FOLDER for each authority that Mozilla trusts to vouch for servers, from certdata.txt on
# standard input: PKCS#11 objects, of which the certificates and the statements of trust about them concern us.
use strict;
use warnings;
use MIME::Base64;

my $folder = shift or die "usage: certdata.pl FOLDER < certdata.txt\n";

my (@objects, $object);
while (defined(my $line = <STDIN>)) {
    next if $line =~ /^\s*(#|$)/ or $line =~ /^BEGINDATA/;
    my ($field, $type, $value) = $line =~ /^(CK\w+)\s+(\w+)(?:\s+(.*?))?\s*$/ or die "line $.: not understood: $line";
    if ($type eq 'MULTILINE_OCTAL') {
        $value = '';
        while (defined($line = <STDIN>) and $line !~ /^END/) {
            $value .= chr oct $1 while $line =~ /\\([0-3][0-7]{2})/g;
        }
    }
    push @objects, $object = {} if $field eq 'CKA_CLASS';
    $object->{$field} = $value if $object;
}

# A certificate and the trust in it name each other by issuer and serial number.
sub id { my $o = shift; return "$o->{CKA_ISSUER}\0$o->{CKA_SERIAL_NUMBER}" }

my %trusted;
for my $o (grep { $_->{CKA_CLASS} eq 'CKO_NSS_TRUST' } @objects) {
    $trusted{id($o)} = $o->{CKA_TRUST_SERVER_AUTH} eq 'CKT_NSS_TRUSTED_DELEGATOR';
}

my %taken;
for my $o (grep { $_->{CKA_CLASS} eq 'CKO_CERTIFICATE' and $trusted{id($_)} } @objects) {
    my ($name) = $o->{CKA_LABEL} =~ /^"(.*)"$/ or die "a label without quotes: $o->{CKA_LABEL}\n";
    $name =~ s/\\x([0-9a-fA-F]{2})/chr hex $1/ge;
    $name =~ s/[^A-Za-z0-9.\x80-\xff-]/_/g;
    $name .= '_2' if $taken{$name}++;
    open my $file, '>', "$folder/$name.crt" or die "$folder/$name.crt: $!\n";
    my $base64 = encode_base64($o->{CKA_VALUE}, '');
    $base64 =~ s/(.{1,64})/$1\n/g;
    print $file "-----BEGIN CERTIFICATE-----\n$base64-----END CERTIFICATE-----\n";
    close $file or die "$folder/$name.crt: $!\n";
}
die "no trusted certificate was found\n" unless %taken;
