; The demo appliance's boot sector: reads chunks of the disk through the BIOS,
; checks each against the table in sector 1, reports on the first serial line
; and switches the machine off.
;
; Assemble with: nasm -f bin -o boot.bin boot.asm
;
; Sector 1: "VMCF", dword count, then count entries of dword LBA, dword sum.
; A chunk is 16 sectors; its sum starts at 0 and for each little-endian dword
; is rotated left by one bit, then the dword is added (mod 2^32).

bits 16
org 0x7c00

TABLE   equ 0x7e00
CHUNK   equ 0x8000
SECTORS equ 16
TICKS   equ 0x046c                      ; counted by the BIOS, 18.2 a second

start:
        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        sti
        cld
        mov [drive], dl

        ; SeaBIOS holds back the last of what it writes to a serial console, and
        ; sends it at a tick of the clock: two ticks go by before a line is ours.
        mov bx, [TICKS]
.tick:
        hlt
        mov ax, [TICKS]
        sub ax, bx
        cmp ax, 2
        jb .tick

        mov ax, 0x00e3                  ; 9600 baud, 8N1; 0 = COM1
        xor dx, dx
        int 0x14

        mov si, hello
        call print

        mov word [dap.count], 1
        mov word [dap.buf], TABLE
        mov dword [dap.lba], 1
        call read
        cmp dword [TABLE], 'VMCF'
        jne bad
        mov ecx, [TABLE+4]
        mov bx, TABLE+8
        mov word [dap.count], SECTORS
        mov word [dap.buf], CHUNK

.next:
        mov eax, [bx]
        mov [dap.lba], eax
        call read
        xor eax, eax
        mov si, CHUNK
        mov dx, SECTORS*128
.sum:
        rol eax, 1
        add eax, [si]
        add si, 4
        dec dx
        jnz .sum
        cmp eax, [bx+4]
        jne bad
        mov al, '.'
        call putc
        add bx, 8
        dec ecx
        jnz .next

        mov si, good
        call print
        jmp off

read:
        pushad
        mov ah, 0x42
        mov dl, [drive]
        mov si, dap
        int 0x13
        popad
        jc bad
        ret

bad:
        mov si, wrong
        call print

off:
        mov ax, 0x5301                  ; APM: connect, version 1.2, power off
        xor bx, bx
        int 0x15
        mov ax, 0x530e
        xor bx, bx
        mov cx, 0x0102
        int 0x15
        mov ax, 0x5307
        mov bx, 1
        mov cx, 3
        int 0x15
.halt:
        hlt
        jmp .halt

print:
        lodsb
        test al, al
        jz .done
        call putc
        jmp print
.done:  ret

putc:
        pushad
        mov ah, 1
        xor dx, dx
        int 0x14
        popad
        ret

drive:  db 0
hello:  db "vmcastfs demo: booted from the mounted path, checking sectors ", 0
good:   db " all sectors match.", 13, 10, 0
wrong:  db " MISMATCH.", 13, 10, 0

align 4
dap:    db 16, 0
.count: dw 0
.buf:   dw 0
        dw 0
.lba:   dd 0
        dd 0

        times 446-($-$$) db 0
        ; one partition over the rest of the disk, filled in by the builder
        times 510-($-$$) db 0
        dw 0xaa55
