//! Many TCP segments of one flow as one packet, which is how the kernel hands them to a TUN device and takes them from it: cut apart for the
//! wire, and joined again behind it. Pure: bytes in, bytes out. Must never join what is not one flow in its right order, nor hide from the
//! kernel that a checksum is wrong.

use std::ops::DerefMut;

/// Bytes of `virtio_net_hdr_v1_hash_tunnel`, which stands before each packet.
pub(super) const HEADER: usize = 24;
/// The checksum at `csum_offset` covers the pseudo header only; the rest is to be added.
const NEEDS_CSUM: u8 = 1;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
/// The segments are inside VXLAN over IPv4.
const TUNNEL4: u8 = 0x20;

/// Flags of TCP, at the 14th byte of its header.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;
/// Where its checksum is.
const TCP_CSUM: usize = 16;

/// An outer IPv4 header without options, then UDP, VXLAN and Ethernet.
const UDP: usize = 20;
const VXLAN: usize = UDP + 8;
const ETHERNET: usize = VXLAN + 8;
const INNER: usize = ETHERNET + 14;
/// What is said of the place of the outer UDP header. Linux (6.17, 6.18) counts an Ethernet header before it, which packets of a TUN device
/// do not have, and refuses less; it takes the true place from the outer IP header itself.
const OUTER_TRANSPORT: u16 = UDP as u16 + 14;
/// Largest packet: a length of IPv4.
const MOST: usize = 65_535;
/// Most packets that are joined, as many as the kernel joins or sends at once.
const MOST_JOINED: usize = 64;

/// What stands before a packet, in the host's byte order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    flags: u8,
    gso_type: u8,
    header_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
    outer_transport: u16,
    inner_network: u16,
}

impl Header {
    pub(super) fn parse(b: &[u8; HEADER]) -> Self {
        let two = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
        Self {
            flags: b[0],
            gso_type: b[1],
            header_len: two(2),
            gso_size: two(4),
            csum_start: two(6),
            csum_offset: two(8),
            outer_transport: two(20),
            inner_network: two(22),
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        (b[0], b[1]) = (self.flags, self.gso_type);
        let fields = [(2, self.header_len), (4, self.gso_size), (6, self.csum_start), (8, self.csum_offset)];
        for (at, value) in fields.into_iter().chain([(20, self.outer_transport), (22, self.inner_network)]) {
            b[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        b
    }
}

/// Sum of 16-bit words in network order, not folded; an odd byte at the end counts as the high one.
fn sum(bytes: &[u8]) -> u64 {
    // The sum of ones' complements is the same in any byte order, so wide words of this host's do, turned at the end.
    let mut words = bytes.chunks_exact(4);
    let mut total: u64 = words.by_ref().map(|w| u64::from(u32::from_ne_bytes([w[0], w[1], w[2], w[3]]))).sum();
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));
    u64::from(u16::from_be(fold(total)))
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // Folded just now.
    total as u16
}

fn get(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

fn put(b: &mut [u8], at: usize, value: u16) {
    b[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Sum of TCP's pseudo header, for the IP header at `net` and `len` bytes of TCP.
fn pseudo(b: &[u8], net: usize, len: usize) -> u64 {
    let addresses = if b[net] >> 4 == 4 { net + 12..net + 20 } else { net + 8..net + 40 };
    sum(&b[addresses]) + 6 + len as u64
}

/// Sets lengths and checksum of the IP header at `net` of a packet of `len` bytes from there; IPv4's identification is raised by `step`.
fn set_ip(b: &mut [u8], net: usize, len: usize, step: u16) {
    // At most `MOST`, which `cut` and `join` see to.
    let len = len as u16;
    if b[net] >> 4 == 4 {
        let end = net + usize::from(b[net] & 15) * 4;
        put(b, net + 2, len);
        put(b, net + 4, get(b, net + 4).wrapping_add(step));
        put(b, net + 10, 0);
        let check = !fold(sum(&b[net..end]));
        put(b, net + 10, check);
    } else {
        put(b, net + 4, len.saturating_sub(40));
    }
}

/// Sets the lengths of a tunnel's headers; a checksum of zero is none, which IPv4 allows. The cipher guards every byte.
fn set_outer(b: &mut [u8], outer: usize, len: usize, step: u16) {
    set_ip(b, 0, len, step);
    put(b, outer + 4, (len - outer) as u16);
    put(b, outer + 6, 0);
}

/// Calls `each` with every packet that a read gave, as it goes over the wire, in its order. A packet that makes no sense is left out.
pub(super) fn cut(header: &Header, packet: &mut [u8], each: impl FnMut(&[u8], &[u8], &dyn Fn(&mut [u8]))) {
    let _ = try_cut(header, packet, each);
}

fn try_cut(header: &Header, packet: &mut [u8], mut each: impl FnMut(&[u8], &[u8], &dyn Fn(&mut [u8]))) -> Option<()> {
    let tcp = usize::from(header.csum_start);
    if header.gso_type == 0 {
        if header.flags & NEEDS_CSUM != 0 {
            let at = tcp + usize::from(header.csum_offset);
            packet.get(at..at + 2)?;
            let check = !fold(sum(packet.get(tcp..)?));
            put(packet, at, if check == 0 { 0xffff } else { check });
        }
        each(packet, &[], &|_| {});
        return Some(());
    }
    let tunnelled = header.gso_type & TUNNEL4 != 0;
    let (net, outer) = (usize::from(header.inner_network), usize::from(header.outer_transport));
    let net = if tunnelled { net } else { 0 };
    let size = usize::from(header.gso_size);
    let payload = tcp + usize::from(packet.get(tcp + 12)? >> 4) * 4;
    let whole = packet.len() > payload && payload >= tcp + 20 && tcp >= net + 20 && size > 0 && packet.len() <= MOST;
    let known = matches!(header.gso_type & !TUNNEL4, TCP4 | TCP6) && (!tunnelled || (outer >= 20 && outer + 8 <= net));
    if !whole || !known || (packet[net] >> 4 == 6 && tcp < net + 40) {
        return None;
    }
    let (head, data) = packet.split_at(payload);
    let first = u32::from_be_bytes([head[tcp + 4], head[tcp + 5], head[tcp + 6], head[tcp + 7]]);
    let last = (data.len() - 1) / size;
    for (i, part) in data.chunks(size).enumerate() {
        // At most as many as there are bytes in a packet.
        let (step, sequence) = (i as u16, first.wrapping_add((i * size) as u32));
        each(head, part, &|b: &mut [u8]| {
            b[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
            if i < last {
                b[tcp + 13] &= !(FIN | PSH);
            }
            if i > 0 {
                b[tcp + 13] &= !CWR;
            }
            set_ip(b, net, b.len() - net, step);
            put(b, tcp + TCP_CSUM, 0);
            let check = !fold(pseudo(b, net, b.len() - tcp) + sum(&b[tcp..]));
            put(b, tcp + TCP_CSUM, check);
            if tunnelled {
                set_outer(b, outer, b.len(), step);
            }
        });
    }
    Some(())
}

/// Where a packet that may be joined with others has what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    tcp: usize,
    payload: usize,
    sequence: u32,
    len: usize,
}

impl Layout {
    /// None if the packet is not a segment of TCP with data, in VXLAN, right in every checksum.
    fn of(b: &[u8]) -> Option<Self> {
        let outer = b.len() > INNER + 40 && b[0] == 0x45 && b[9] == 17 && usize::from(get(b, 2)) == b.len();
        let vxlan = outer && get(b, 6) & 0x3fff == 0 && b[VXLAN..VXLAN + 4] == [8, 0, 0, 0] && b[ETHERNET - 1] == 0;
        if !vxlan || usize::from(get(b, UDP + 4)) != b.len() - UDP || fold(sum(&b[..UDP])) != 0xffff {
            return None;
        }
        let inner = b.len() - INNER;
        let tcp = match get(b, INNER - 2) {
            // Whole, not to be cut, so that what identifies it does not matter.
            0x0800 if b[INNER] == 0x45 && b[INNER + 9] == 6 && get(b, INNER + 6) == 0x4000 => {
                let right = usize::from(get(b, INNER + 2)) == inner && fold(sum(&b[INNER..INNER + 20])) == 0xffff;
                right.then_some(INNER + 20)?
            }
            0x86dd if b[INNER] >> 4 == 6 && b[INNER + 6] == 6 && usize::from(get(b, INNER + 4)) + 40 == inner => INNER + 40,
            _ => return None,
        };
        let payload = tcp + usize::from(b.get(tcp + 12)? >> 4) * 4;
        let plain = payload >= tcp + 20 && b.len() > payload && b[tcp + 13] & !PSH == ACK;
        if !plain || fold(pseudo(b, INNER, b.len() - tcp) + sum(&b[tcp..])) != 0xffff {
            return None;
        }
        let sequence = u32::from_be_bytes([b[tcp + 4], b[tcp + 5], b[tcp + 6], b[tcp + 7]]);
        Some(Self { tcp, payload, sequence, len: b.len() - payload })
    }
}

/// Packets that leave as one.
#[derive(Debug)]
pub(super) struct Joined<P> {
    /// In their order, with the headers of the first only being of use.
    pub(super) packets: Vec<P>,
    layout: Option<Layout>,
    bytes: usize,
    next: u32,
    /// Whether another may follow.
    open: bool,
}

impl<P: DerefMut<Target = [u8]>> Joined<P> {
    /// A packet that others may follow, if it is of the kind.
    fn first(packet: P) -> Self {
        let b = &*packet;
        let layout = Layout::of(b);
        let next = layout.map_or(0, |l| l.sequence.wrapping_add(l.len as u32));
        let open = layout.is_some_and(|l| b[l.tcp + 13] & PSH == 0);
        Self { bytes: b.len(), packets: vec![packet], layout, next, open }
    }

    /// A packet alone.
    pub(super) fn one(packet: P) -> Self {
        Self { bytes: packet.len(), packets: vec![packet], layout: None, next: 0, open: false }
    }

    /// Whether `b` has the same headers, but for what differs from segment to segment.
    fn is_flow_of(&self, b: &[u8], layout: &Layout) -> bool {
        let (Some(mine), Some(first)) = (self.layout, self.packets.first()) else { return false };
        let (a, tcp): (&[u8], usize) = (first, layout.tcp);
        if (mine.tcp, mine.payload) != (tcp, layout.payload) {
            return false;
        }
        // Of IPv4: all but length, identification and checksum. The port that an outer header comes from tells flows apart.
        let ip = |net: usize| a[net..net + 2] == b[net..net + 2] && a[net + 6..net + 10] == b[net + 6..net + 10];
        let outer = ip(0) && a[12..UDP + 4] == b[12..UDP + 4] && a[VXLAN..INNER] == b[VXLAN..INNER];
        let inner = if tcp == INNER + 20 {
            ip(INNER) && a[INNER + 12..tcp + 4] == b[INNER + 12..tcp + 4]
        } else {
            a[INNER..INNER + 4] == b[INNER..INNER + 4] && a[INNER + 6..tcp + 4] == b[INNER + 6..tcp + 4]
        };
        let flags = a[tcp + 13] | PSH == b[tcp + 13] | PSH;
        let rest = a[tcp + 14..tcp + TCP_CSUM] == b[tcp + 14..tcp + TCP_CSUM]
            && a[tcp + 18..mine.payload] == b[tcp + 18..mine.payload];
        outer && inner && flags && rest && a[tcp + 8..tcp + 13] == b[tcp + 8..tcp + 13]
    }

    /// Sets the headers of the first packet for all of them, and says what stands before it.
    pub(super) fn seal(&mut self) -> (Header, usize) {
        let (Some(l), true, total) = (self.layout, self.packets.len() > 1, self.bytes) else { return (Header::default(), 0) };
        let pushed = self.packets.last().is_some_and(|p| p[l.tcp + 13] & PSH != 0);
        let b = &mut *self.packets[0];
        if pushed {
            b[l.tcp + 13] |= PSH;
        }
        set_ip(b, INNER, total - INNER, 0);
        let partial = fold(pseudo(b, INNER, total - l.tcp));
        put(b, l.tcp + TCP_CSUM, partial);
        set_outer(b, UDP, total, 0);
        let header = Header {
            flags: NEEDS_CSUM,
            gso_type: TUNNEL4 | if l.tcp == INNER + 20 { TCP4 } else { TCP6 },
            header_len: l.payload as u16,
            gso_size: l.len as u16,
            csum_start: l.tcp as u16,
            csum_offset: TCP_CSUM as u16,
            outer_transport: OUTER_TRANSPORT,
            inner_network: INNER as u16,
        };
        (header, l.payload)
    }
}

/// Joins what can be joined. Packets of one flow keep their order.
pub(super) fn join<P: DerefMut<Target = [u8]>>(packets: impl IntoIterator<Item = P>) -> Vec<Joined<P>> {
    let mut out: Vec<Joined<P>> = Vec::new();
    for packet in packets {
        let next = Joined::first(packet);
        let (Some(l), b) = (next.layout, &*next.packets[0]) else {
            // It may be of a flow that is open, as its end is.
            out.iter_mut().for_each(|j| j.open = false);
            out.push(next);
            continue;
        };
        let flow = out.iter_mut().rev().find(|j| j.open && j.is_flow_of(b, &l));
        match flow {
            Some(j) if j.next == l.sequence && j.fits(&l) => {
                j.next = next.next;
                j.bytes += l.len;
                // A shorter one is the last, and one that is pushed.
                j.open = next.open && j.layout.is_some_and(|first| first.len == l.len);
                j.packets.extend(next.packets);
            }
            other => {
                if let Some(j) = other {
                    j.open = false;
                }
                out.push(next);
            }
        }
    }
    out
}

impl<P> Joined<P> {
    fn fits(&self, next: &Layout) -> bool {
        let least = self.layout.is_some_and(|first| next.len <= first.len);
        least && self.bytes + next.len <= MOST && self.packets.len() < MOST_JOINED
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a packet of the wire says.
    #[derive(Debug, Clone)]
    struct Wire {
        v6: bool,
        port: u16,
        sequence: u32,
        ack: u32,
        flags: u8,
        options: u8,
        data: Vec<u8>,
    }

    /// Made by hand, field by field, independently of the code above.
    fn wire(w: &Wire) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(w.port.to_be_bytes());
        tcp.extend(80u16.to_be_bytes());
        tcp.extend(w.sequence.to_be_bytes());
        tcp.extend(w.ack.to_be_bytes());
        tcp.extend([(5 + w.options) << 4, w.flags, 1, 0, 0, 0, 0, 0]);
        tcp.extend(vec![1; usize::from(w.options) * 4]);
        tcp.extend(&w.data);
        let len = u16::try_from(tcp.len()).unwrap();
        let mut ip = if w.v6 {
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend(len.to_be_bytes());
            ip.extend([6, 64]);
            ip.extend([0xfd; 16]);
            ip.extend([0xfe; 16]);
            ip
        } else {
            let mut ip = vec![0x45, 0];
            ip.extend((len + 20).to_be_bytes());
            ip.extend([0, 7, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            check(&mut ip, 10, 0);
            ip
        };
        let addresses = if w.v6 { [0xfd; 16].into_iter().chain([0xfe; 16]).collect() } else { vec![10, 0, 0, 1, 10, 0, 0, 2] };
        let mut whole = addresses;
        whole.extend([0, 6]);
        whole.extend(len.to_be_bytes());
        let before = whole.len();
        whole.extend(&tcp);
        check(&mut whole, before + 16, 0);
        ip.extend(&whole[before..]);
        let mut out = vec![0x45, 0];
        out.extend(u16::try_from(ip.len() + INNER).unwrap().to_be_bytes());
        out.extend([0, 9, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        check(&mut out, 10, 0);
        out.extend([0xc0, 1, 0x12, 0xb7]);
        out.extend(u16::try_from(ip.len() + INNER - UDP).unwrap().to_be_bytes());
        out.extend([0, 0, 8, 0, 0, 0, 0, 1, 2, 0]);
        out.extend([2; 6]);
        out.extend([3; 6]);
        out.extend(if w.v6 { [0x86, 0xdd] } else { [8, 0] });
        out.extend(ip);
        out
    }

    /// Sets the checksum at `at` of all bytes from `from` on, word by word.
    fn check(b: &mut [u8], at: usize, from: usize) {
        let mut total = 0u32;
        for w in b[from..].chunks(2) {
            total += u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0));
        }
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        b[at..at + 2].copy_from_slice(&(!u16::try_from(total).unwrap()).to_be_bytes());
    }

    /// What the kernel would make of it: the bytes of one write, cut again.
    fn passed(joined: Vec<Joined<Vec<u8>>>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for mut j in joined {
            let (header, payload) = j.seal();
            let mut header = Header::parse(&header.bytes());
            if header.gso_type != 0 {
                // What the kernel reads from the outer header.
                header.outer_transport = UDP as u16;
            }
            let mut whole = j.packets[0].clone();
            j.packets[1..].iter().for_each(|p| whole.extend(&p[payload..]));
            cut(&header, &mut whole, |head, part, set| {
                let mut packet = [head, part].concat();
                set(&mut packet);
                out.push(packet);
            });
        }
        out
    }

    /// Without what may differ: IPv4's identification, with the checksum that covers it.
    fn bare(packet: &[u8]) -> Vec<u8> {
        let mut b = packet.to_vec();
        let v4 = b[INNER] >> 4 == 4;
        for net in [0].into_iter().chain(v4.then_some(INNER)) {
            assert_eq!(fold(sum(&b[net..net + 20])), 0xffff, "checksum of IP");
            b[net + 4..net + 6].fill(0);
            b[net + 10..net + 12].fill(0);
        }
        b
    }

    fn packets() -> impl Strategy<Value = Vec<Wire>> {
        let step = (0u16..3, any::<bool>(), 0u8..8, prop_oneof![Just(64usize), Just(64), Just(63), 1usize..80], 0u8..4);
        proptest::collection::vec(step, 1..90).prop_map(|steps| {
            let mut next = [0xffff_ff80u32, 7, 1 << 31];
            steps
                .into_iter()
                .map(|(flow, jump, flags, len, odd)| {
                    let at = &mut next[usize::from(flow)];
                    // Seldom something is missing between two.
                    *at = at.wrapping_add(u32::from(jump && odd == 0) * 9);
                    let sequence = *at;
                    *at = at.wrapping_add(len as u32);
                    let flags = [ACK, ACK, ACK, ACK, ACK | PSH, ACK | FIN, ACK | CWR, ACK | 0x20][usize::from(flags)];
                    let data = (0..len).map(|i| (i as u8) ^ odd).collect();
                    Wire { v6: flow == 1, port: flow, sequence, ack: u32::from(odd == 3), flags, options: flow as u8, data }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_joined_and_cut_is_what_it_was(all in packets()) {
            let sent: Vec<Vec<u8>> = all.iter().map(wire).collect();
            let got = passed(join(sent.clone()));
            prop_assert_eq!(got.len(), sent.len());
            // Flows may overtake each other; within one nothing does.
            for flow in 0..3u16 {
                let of = |b: &&Vec<u8>| {
                    let tcp = if b[INNER] >> 4 == 4 { INNER + 20 } else { INNER + 40 };
                    get(b, tcp) == flow
                };
                let a: Vec<Vec<u8>> = sent.iter().filter(of).map(|b| bare(b)).collect();
                let b: Vec<Vec<u8>> = got.iter().filter(of).map(|b| bare(b)).collect();
                prop_assert_eq!(a, b);
            }
        }

        #[test]
        fn no_bytes_upset_it(header in any::<[u8; HEADER]>(), mut packet in proptest::collection::vec(any::<u8>(), 0..300)) {
            join([packet.clone()]);
            cut(&Header::parse(&header), &mut packet, |head, part, set| {
                let mut packet = [head, part].concat();
                set(&mut packet);
            });
        }
    }

    fn stream(n: u32) -> Vec<Vec<u8>> {
        let one = |i| Wire { v6: false, port: 1, sequence: 5 + i * 100, ack: 0, flags: ACK, options: 3, data: vec![7; 100] };
        (0..n).map(|i| wire(&one(i))).collect()
    }

    #[test]
    fn a_stream_leaves_as_one_packet() {
        let joined = join(stream(40));
        assert_eq!(joined.iter().map(|j| j.packets.len()).collect::<Vec<_>>(), [40]);
        let joined = join(stream(100));
        assert_eq!(joined.iter().map(|j| j.packets.len()).collect::<Vec<_>>(), [64, 36]);
    }

    #[test]
    fn a_wrong_checksum_is_not_hidden() {
        for at in [INNER + 10, INNER + 20 + TCP_CSUM, INNER + 60] {
            let mut sent = stream(3);
            sent[1][at] ^= 1;
            let got = passed(join(sent.clone()));
            assert_eq!(got, sent, "byte {at}");
        }
    }

    #[test]
    fn a_checksum_that_the_kernel_began_is_finished() {
        let whole = stream(1).remove(0);
        let mut begun = whole.clone();
        let partial = fold(pseudo(&begun, INNER, begun.len() - INNER - 20));
        put(&mut begun, INNER + 20 + TCP_CSUM, partial);
        let header =
            Header { flags: NEEDS_CSUM, csum_start: INNER as u16 + 20, csum_offset: TCP_CSUM as u16, ..Header::default() };
        let mut got = Vec::new();
        cut(&header, &mut begun, |head, _, _| got = head.to_vec());
        assert_eq!(got, whole);
    }
}
