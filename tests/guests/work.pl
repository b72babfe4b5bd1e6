# What Perl is used for: hashes, regular expressions, substitution, sorting, formatting.
# usage: work.pl ROUNDS
use strict;
use warnings;

my $seed = 42;

sub number {
    $seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
    return $seed >> 8;
}

sub records {
    my @lines;
    for (1 .. 3000) {
        push @lines, sprintf("%05d host%02d GET /page/%d?q=%x %d", $_, number() % 40, number() % 90, number(), number() % 5000);
    }
    return @lines;
}

for my $turn (1 .. $ARGV[0]) {
    my (%hits, %bytes, $queries);
    for my $line (records()) {
        next unless $line =~ m{^(\d+) (host\d+) GET /page/(\d+)\?q=([0-9a-f]+) (\d+)$};
        $hits{"$2/$3"}++;
        $bytes{$2} += $5;
        (my $query = $4) =~ tr/a-f0-9/A-F9876543210/;
        $query =~ s/(\w\w)/<$1>/g;
        $queries .= $query;
    }
    my @top = sort { $hits{$b} <=> $hits{$a} || $a cmp $b } keys %hits;
    my @hosts = sort { $bytes{$b} <=> $bytes{$a} || $a cmp $b } keys %bytes;
    my $sum = 0;
    $sum = ($sum * 31 + ord) % 1000003 for split //, $queries;
    printf "%d %s %d %s %d %d %d\n", $turn, $top[0], $hits{$top[0]}, $hosts[0], $bytes{$hosts[0]}, length $queries, $sum;
}
