"""Nvision protocol: conversion of messages to and from bytes and JSON, the WebSocket client and its errors."""
