// What speaks AF_VSOCK in a guest: Debian's own perl, and a script.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { type Entry, file, folder } from "./initramfs.js";
import { GUEST_REQUIRED } from "./requirements.js";

/** Every Debian has it. */
const PERL = "/usr/bin/perl";

/** Tests that need it are skipped, and say so by their names. */
export const SKIPS_PERL = !existsSync(PERL) && !GUEST_REQUIRED;

/** A group's name, with what is missing here. */
export const titleOf = (title: string) => `${title}${SKIPS_PERL ? " (missing: perl)" : ""}`;

/** perl, and the libraries that it is linked to. */
export function perl(): Entry[] {
  const libraries = execFileSync("ldd", [PERL], { encoding: "utf8" })
    .split("\n")
    .flatMap((line) => /(\/\S+)/.exec(line)?.[1] ?? []);
  return [
    ...["lib", "lib/x86_64-linux-gnu", "lib64"].map(folder),
    file("bin/perl", readFileSync(PERL)),
    ...libraries.map((path) => file(path.slice(1), readFileSync(realpathSync(path)))),
  ];
}

/**
 * Makes /talk: `perl /talk connect PORT` is connected to the host, sends what it is given, and
 * prints what comes back; `hold` for `connect` only reads, and prints how it ended. `perl /talk
 * listen PORT COUNT` says `listening`, and echoes for so many connections, one after the other. Why
 * a connection fails is printed.
 */
export const TALK = `
  cat >/talk <<'END'
    $| = 1;
    sub address { pack("SSLLx4", 40, 0, $_[0], $_[1]) }
    sub copy {
      my ($from, $to) = @_;
      while ((my $n = sysread($from, my $bytes, 65536)) > 0) {
        for (my $at = 0; $at < $n;) {
          $at += syswrite($to, $bytes, $n - $at, $at) || die "write: $!";
        }
      }
    }
    socket(S, 40, 1, 0) or die "socket: $!";
    if ($ARGV[0] eq "listen") {
      bind(S, address($ARGV[1], 0xffffffff)) or die "bind: $!";
      listen(S, 8);
      print "\\@\\@listening=$ARGV[1]\\n";
      for (1..$ARGV[2]) { accept(C, S) or die "accept: $!"; copy(*C, *C); close C }
    } elsif (!connect(S, address($ARGV[1], 2))) {
      print "$!\\n";
    } elsif ($ARGV[0] eq "hold") {
      while (my $n = sysread(S, my $bytes, 100)) { print $bytes }
      print "$!\\n";
    } elsif (fork) {
      copy(*S, *STDOUT);
    } else {
      copy(*STDIN, *S);
      shutdown(S, 1);
    }
END
`;

/** QEMU's arguments for a socket device whose back-end listens at `socket`. */
export function vsockArguments(socket: string, format: string): string[] {
  const packed = format === "packed" ? ",packed=on" : "";
  return [
    ...["-chardev", `socket,id=vsock,path=${socket}`],
    ...["-device", `vhost-user-vsock-pci,chardev=vsock,disable-legacy=on${packed}`],
  ];
}
