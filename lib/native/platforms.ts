/** Made by scripts/platform-tables.mjs: what has been seen of the platforms that have a prebuilt addon. */
export const PLATFORMS: Readonly<Record<string, string>> = {
  'linux-x64':
    'runs on hardware: 492 native tests pass, 11 are skipped; training, generation, and aborts work under Bun 1.4.5, Deno 2.9.6, and Node 20.20.2; an install and the demo work under Bun 1.4.5, Deno 2.9.6, and Node 20.20.2',
  'linux-arm64': 'runs under qemu 7.2.22: 314 native tests pass, 2 are skipped',
  'linux-x64-musl':
    'runs on hardware: training, generation, and aborts work under Node 24.19.0 for musl; an install and the demo work under Node 24.19.0 for musl',
  'linux-arm64-musl': 'runs under qemu 7.2.22: 313 native tests pass, 3 are skipped',
  'win32-x64':
    'runs under wine 8.0: 307 native tests pass, 7 are skipped; 5842 TypeScript tests pass, 73 are skipped; training, generation, and aborts work under Node 22.23.3; an install and the demo work under Node 22.23.3',
  'darwin-arm64': 'links only: built by zig 0.17.1, and the file checked; never run',
  'darwin-x64': 'links only: built by zig 0.17.1, and the file checked; never run',
}
